"""Commands on a ring whose keys are moving: what the old server answers, and what the new one does.

A key that gets another server is where the old one has it, as long as it has it. So a command goes
there first, with a *guard* in front of it that is carried out in the same step:

* all its keys are here, or nothing moves here yet: the command runs;
* none is: it does not, and says of each key whether it was *taken over*, so that the new server has
  a copy of it under another name, or *ended* (deleted, expired, evicted) while it was here;
* some are: it does not, and the keys that are here are put on a list of wishes, so that they are
  the next to go.

At the new server the copy of what was taken over is given its name first, and a copy of what ended
is thrown away: it was made before the end. See :mod:`.taking` for how keys are taken over, and
docs/decisions/0023 for why nothing is lost, and nothing old comes back.
"""

from __future__ import annotations

from typing import Final

from ...settings import MAINTENANCE
from ...transport import Command
from .names import Names
from .scripts import text_of

__all__ = ["WISHES", "RingGuard"]

WISHES: Final = 1000
"""How many keys at most are on the list of those that are wanted elsewhere."""

_PLAIN: Final = "#!lua flags=allow-oom\n"
_PLAIN_FULL: Final = "#!lua\n"
_CALL: Final = "return redis.call(unpack(ARGV))\n"

# ..., what a taken key's mark begins with, list of wishes, record, version
_AT_OLD: Final = r"""
local function guard()
  local version, record = table.remove(ARGV), table.remove(ARGV)
  local wishes, mark = table.remove(ARGV), table.remove(ARGV)
  local at, stage = string.match(redis.call('GET', record) or '', '^(%S+) (%a+) ')
  if at ~= version or stage == 'held' then return 'STALE it knows nothing of the move' end
  if stage ~= 'moving' then return end
  local here, flags = {}, ''
  for _, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 1 then
      here[#here + 1] = key
    else
      flags = flags .. redis.call('EXISTS', mark .. key)
    end
  end
  if #here == #KEYS then return end
  if #here == 0 then return 'LEFT ' .. flags end
  if redis.call('LLEN', wishes) < WISHES then redis.call('RPUSH', wishes, unpack(here)) end
  return 'MIXED some of the keys have moved'
end
local refused = guard()
if refused then return redis.error_reply(refused) end
""".replace("WISHES", str(WISHES))

# ..., what a copy's name begins with, flags
_AT_NEW: Final = r"""
do
  local flags, copy = table.remove(ARGV), table.remove(ARGV)
  for at, key in ipairs(KEYS) do
    local name = copy .. key
    if string.sub(flags, at, at) == '0' then
      redis.call('UNLINK', name)
    elseif redis.call('EXISTS', name) == 1 then
      redis.call('RENAME', name, key)
    end
  end
end
"""

_MAY_GROW: Final = frozenset({"SET", "HSET", "XADD"})
"""Plain commands that a full server refuses."""


class RingGuard:
    """See :class:`..transport.guard.Guard`."""

    def __init__(self, names: Names, label: str) -> None:
        self.record = names.placement
        self.label = label
        self._mark = names.taken(b"")
        self._copy = names.taking(b"")
        self._wishes = names.wishes
        self._agreed = names.prefix(MAINTENANCE).encode()

    def stays(self, key: bytes) -> bool:
        """See :meth:`Guard.stays`."""
        return key.startswith(self._agreed)

    def at_old(self, command: Command, key: bytes, version: str) -> Command:
        """See :meth:`Guard.at_old`."""
        words = (self._mark, self._wishes, self.record, version)
        return _guarded(_AT_OLD, command, key, words)

    def at_new(self, command: Command, key: bytes, flags: str) -> Command:
        """See :meth:`Guard.at_new`."""
        return _guarded(_AT_NEW, command, key, (self._copy, flags))


def _guarded(
    guard: str, command: Command, key: bytes, words: tuple[bytes | str | int, ...]
) -> Command:
    """``command`` as one script with a guard in front, whole: it is sent seldom, and servers keep
    it all the same.
    """
    if command[0] in ("EVALSHA", "EVAL"):
        text = text_of(command)
        flags, _, body = text.partition("\n")
        if "no-writes" in flags:
            flags = _PLAIN.rstrip()
        return ("EVAL", f"{flags}\n{guard}{body}", *command[2:], *words)
    flags = _PLAIN_FULL if command[0] in _MAY_GROW else _PLAIN
    return ("EVAL", f"{flags}{guard}{_CALL}", 1, key, *command, *words)
