"""What a server does in one step: the Lua scripts, and how they are called.

Every script declares its keys and its text never changes, so that it is sent once a server and
called by its digest. What only a client can judge (an entry with tags is dead if a nonce of it was
changed, and nonces live on other servers) is answered with the header of the entry; the client
reads the nonces and calls again with the version that it has judged, and its verdict.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

from ...transport import Command

__all__ = [
    "ADD",
    "CLAIM",
    "COMMIT",
    "DROP",
    "FENCE",
    "FILL",
    "PUT",
    "READ",
    "RELEASE",
    "REMOVE",
    "REMOVE_UNUSED",
    "RENEW",
    "RESTORE",
    "TOUCH",
    "Script",
    "resent",
    "text_of",
]

# Positions of the envelope, from 1: magic 1-2, format 3, codec 4, flags 5, tags 6-7, version 8-15,
# expiry 16-23, binding 24-31; of a claim: token 2-17, held until 18-25, kept until 26-33, value 34.
_LOOK: Final = r"""
local function grace(v)
  local expiry = struct.unpack('>d', v, 16)
  if expiry < 0 then return math.floor(0.5 - expiry * 1000) end
  return 0
end
local function tagged(v) return string.sub(v, 6, 7) ~= '\0\0' end
local function version(v) return string.sub(v, 8, 15) end
local function head(v)
  local at = 32
  for _ = 1, struct.unpack('>H', v, 6) do
    if at + 1 > #v then break end
    at = at + 10 + struct.unpack('>H', v, at)
  end
  return string.sub(v, 1, at - 1)
end
local function look(key)
  local v = redis.pcall('GET', key)
  if type(v) == 'table' then return 'foreign', '' end
  if not v then return 'none', '' end
  if string.byte(v, 1) == 0 and #v >= 33 then return 'claim', v end
  if #v < 35 or string.sub(v, 1, 2) ~= '\193\219' then return 'foreign', v end
  local left = redis.call('PTTL', key)
  if left >= 0 then
    left = left - grace(v)
    if left <= 0 then return 'stale', v, left end
  end
  return 'live', v, left
end
local function judged(kind, v, known, alive)
  if kind ~= 'live' or not tagged(v) then return kind end
  if version(v) ~= known then return 'ask' end
  return alive == '1' and 'live' or 'dead'
end
local function store(key, v, px)
  if px == '' then return redis.call('SET', key, v) end
  return redis.call('SET', key, v, 'PX', px)
end
local function whole(n) return string.format('%.0f', n) end
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
"""


class Script:
    """One script. ``flags`` are Redis's: without ``allow-oom`` a full server refuses it."""

    def __init__(self, body: str, flags: str = "") -> None:
        self.text = f"#!lua flags={flags}\n{_LOOK}{body}" if flags else f"#!lua\n{_LOOK}{body}"
        self._digest = sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        _TEXTS[self._digest] = self.text

    def call(self, key: bytes, *arguments: str | bytes | int) -> Command:
        """The command that runs it on one key."""
        return ("EVALSHA", self._digest, 1, key, *arguments)

    def call_many(self, keys: list[bytes], arguments: list[str | bytes | int]) -> Command:
        """The command that runs it on keys of one slot."""
        return ("EVALSHA", self._digest, len(keys), *keys, *arguments)


_TEXTS: dict[str | bytes | int | float, str] = {}


def resent(command: Command) -> Command:
    """``command`` for a server that does not know the script yet: it knows it afterwards."""
    return ("EVAL", _TEXTS[command[1]], *command[2:])


def text_of(command: Command) -> str:
    """The text of the script that ``command`` runs."""
    return _TEXTS[command[1]] if command[0] == "EVALSHA" else str(command[1])


# stale -> {value, left} | {value, left, 1} for a stale one | {head of a claim, -1} | nil
READ: Final = Script(
    r"""
local kind, v, left = look(KEYS[1])
if kind == 'live' or kind == 'foreign' then return {v, left or -1} end
if ARGV[1] == '1' then
  if kind == 'stale' then return {v, left, 1} end
  if kind == 'claim' then
    local kept = struct.unpack('>d', v, 26)
    local old, time = string.sub(v, 34), now()
    if kept > time and #old >= 35 then return {old, kept - time - grace(old), 1} end
  end
end
if kind == 'claim' then return {string.sub(v, 1, 33), -1} end
return false
""",
    "no-writes",
)

# known, alive, value, px, when, keep, grace -> 1 | 0 | head to judge
PUT: Final = Script(
    r"""
local kind, v, left = look(KEYS[1])
kind = judged(kind, v, ARGV[1], ARGV[2])
if kind == 'ask' then return head(v) end
local live = kind == 'live'
if ARGV[5] == 'absent' and live or ARGV[5] == 'present' and not live then return 0 end
local px = ARGV[4]
if ARGV[6] == '1' and live then
  px = left >= 0 and whole(left + ARGV[7]) or ''
end
store(KEYS[1], ARGV[3], px)
return 1
"""
)

# known, alive, value, px, version, overwrite -> 1 | 0 | head to judge
RESTORE: Final = Script(
    r"""
local function lower(a, b)
  local a1, a2 = struct.unpack('>I4I4', a)
  local b1, b2 = struct.unpack('>I4I4', b)
  return a1 < b1 or a1 == b1 and a2 < b2
end
local kind, v = look(KEYS[1])
if kind == 'claim' then
  if struct.unpack('>d', v, 18) > now() then return 0 end
elseif (kind == 'live' or kind == 'foreign') and ARGV[6] ~= 'always' then
  if ARGV[6] == 'never' or kind == 'live' and not lower(version(v), ARGV[5]) then
    kind = judged(kind, v, ARGV[1], ARGV[2])
    if kind == 'ask' then return head(v) end
    if kind ~= 'dead' then return 0 end
  end
end
store(KEYS[1], ARGV[3], ARGV[4])
return 1
"""
)

# known, alive, ttl -> version | 0 | head to judge
TOUCH: Final = Script(
    r"""
local kind, v = look(KEYS[1])
kind = judged(kind, v, ARGV[1], ARGV[2])
if kind == 'ask' then return head(v) end
if kind ~= 'live' then return 0 end
if ARGV[3] == '' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], whole(ARGV[3] + grace(v)))
end
return version(v)
""",
    "allow-oom",
)

# whether it spares fences -> 1 | 0 | head of what was removed
DROP: Final = Script(
    r"""
local kind, v = look(KEYS[1])
if kind == 'none' then return 0 end
if kind == 'claim' and ARGV[1] == '1' and string.byte(v, 2) == 255 then return 0 end
redis.call('UNLINK', KEYS[1])
if kind ~= 'live' then return 0 end
return tagged(v) and head(v) or 1
""",
    "allow-oom",
)

# first value, px, new header, CRC-32 of it, delta
#   -> {1, total} | {0} where 64 bits would be left | {2, value, left} to judge
# The sum is the server's: the digits are put where INCRBY finds them, and back into an envelope.
ADD: Final = Script(
    r"""
local kind, v, left = look(KEYS[1])
if kind ~= 'live' then
  if ARGV[1] == '' then return {0} end
  store(KEYS[1], ARGV[1], ARGV[2])
  return {1}
end
local new = ARGV[3]
if string.sub(v, 1, 7) ~= string.sub(new, 1, 7)
    or string.sub(v, 16, 31) ~= string.sub(new, 16, 31) then
  return {2, v, left}
end
redis.call('SET', KEYS[1], string.sub(v, 32, -5), 'KEEPTTL')
local sum = redis.pcall('INCRBY', KEYS[1], ARGV[5])
if type(sum) == 'table' then
  redis.call('SET', KEYS[1], v, 'KEEPTTL')
  return string.find(sum.err, 'overflow') and {0} or {2, v, left}
end
local total = redis.call('GET', KEYS[1])
local nibbles = {
  0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
  0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c}
local bxor, band, rshift = bit.bxor, bit.band, bit.rshift
local crc = bit.bnot(tonumber(ARGV[4]))
for at = 1, #total do
  crc = bxor(crc, string.byte(total, at))
  crc = bxor(nibbles[band(crc, 15) + 1], rshift(crc, 4))
  crc = bxor(nibbles[band(crc, 15) + 1], rshift(crc, 4))
end
crc = bit.bnot(crc)
local sum32 = string.char(
  band(rshift(crc, 24), 255), band(rshift(crc, 16), 255), band(rshift(crc, 8), 255), band(crc, 255))
redis.call('SET', KEYS[1], new .. total .. sum32, 'KEEPTTL')
return {1, total}
"""
)

# number of checks, for each: key, expected version, known, alive; for each change: key, value, px,
# where no value is a removal -> 0 | {'ask', key, head, ...} | {'ok', outcome, ...}
COMMIT: Final = Script(
    r"""
local at, asked = 2, {'ask'}
for _ = 1, ARGV[1] do
  local kind, v = look(KEYS[tonumber(ARGV[at])])
  local expected = ARGV[at + 1]
  kind = judged(kind, v, ARGV[at + 2], ARGV[at + 3])
  if kind == 'ask' then
    if expected ~= '' and version(v) ~= expected then return 0 end
    asked[#asked + 1] = ARGV[at]
    asked[#asked + 1] = head(v)
  else
    local found = ''
    if kind == 'live' then found = version(v) end
    if kind == 'foreign' and expected ~= '' then found = '\0\0\0\0\0\0\0\0' end
    if found ~= expected then return 0 end
  end
  at = at + 4
end
if #asked > 1 then return asked end
local done = {'ok'}
while at < #ARGV do
  local key = KEYS[tonumber(ARGV[at])]
  if ARGV[at + 1] ~= '' then
    store(key, ARGV[at + 1], ARGV[at + 2])
    done[#done + 1] = 1
  else
    local kind, v = look(key)
    redis.call('UNLINK', key)
    done[#done + 1] = kind ~= 'live' and 0 or tagged(v) and head(v) or 1
  end
  at = at + 3
end
return done
"""
)

# version judged dead, token, lease, token that may be replaced
#   -> 1 claimed | 0 held by another | {value, left}
CLAIM: Final = Script(
    r"""
local kind, v, left = look(KEYS[1])
local time, lease, old, kept = now(), tonumber(ARGV[3]), '', 0
if kind == 'live' then
  if not tagged(v) or version(v) ~= ARGV[1] then return {v, left} end
elseif kind == 'stale' then
  old, kept = v, redis.call('PEXPIRETIME', KEYS[1])
elseif kind == 'claim' then
  local held
  held, kept = struct.unpack('>dd', v, 18)
  if held > time and string.sub(v, 2, 17) ~= ARGV[4] then return 0 end
  if kept > time then old = string.sub(v, 34) else kept = 0 end
end
local px = math.max(lease, kept - time)
store(KEYS[1], '\0' .. ARGV[2] .. struct.pack('>dd', time + lease, kept) .. old, whole(px))
return 1
"""
)

# lease, and for each key its token -> 1
FENCE: Final = Script(
    r"""
local lease = tonumber(ARGV[1])
local until_when, px = struct.pack('>dd', now() + lease, 0), whole(lease)
for at, key in ipairs(KEYS) do
  store(key, '\0' .. ARGV[at + 1] .. until_when, px)
end
return 1
""",
    "allow-oom",  # 33 bytes for a while, against an old value for ever
)

# token, lease -> 1 | 0
RENEW: Final = Script(
    r"""
local v = redis.pcall('GETRANGE', KEYS[1], 0, 32)
if v and type(v) == 'string' and #v == 33 and string.sub(v, 1, 17) == '\0' .. ARGV[1] then
  local time, lease = now(), tonumber(ARGV[2])
  redis.call('SETRANGE', KEYS[1], 17, struct.pack('>d', time + lease))
  local kept = struct.unpack('>d', v, 26)
  redis.call('PEXPIRE', KEYS[1], whole(math.max(lease, kept - time)))
  return 1
end
return 0
""",
    "allow-oom",
)

# for each key its token, value, px -> 1 | 0 for each
FILL: Final = Script(
    r"""
local done = {}
for at, key in ipairs(KEYS) do
  local from = 3 * at
  done[at] = 0
  if redis.pcall('GETRANGE', key, 0, 16) == '\0' .. ARGV[from - 2] then
    store(key, ARGV[from - 1], ARGV[from])
    done[at] = 1
  end
end
return done
"""
)

# token -> 1 | 0; what the claim kept comes back for the time it has left
RELEASE: Final = Script(
    r"""
local v = redis.pcall('GET', KEYS[1])
if type(v) ~= 'string' or #v < 33 or string.sub(v, 1, 17) ~= '\0' .. ARGV[1] then return 0 end
local kept = struct.unpack('>d', v, 26)
if kept > now() then
  redis.call('SET', KEYS[1], string.sub(v, 34), 'PXAT', whole(kept))
else
  redis.call('UNLINK', KEYS[1])
end
return 1
""",
    "allow-oom",
)

# version as the header has it -> 1 | 0
REMOVE: Final = Script(
    r"""
if redis.pcall('GETRANGE', KEYS[1], 7, 14) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
""",
    "allow-oom",
)

# seconds -> bytes it had, and 1 | 0: used since, or a claim
REMOVE_UNUSED: Final = Script(
    r"""
local idle = redis.pcall('OBJECT', 'IDLETIME', KEYS[1])
if type(idle) ~= 'number' or idle < tonumber(ARGV[1]) then return 0 end
local kind, v = look(KEYS[1])
if kind == 'claim' or kind == 'none' then return 0 end
redis.call('UNLINK', KEYS[1])
return #v + 1
""",
    "allow-oom",
)
