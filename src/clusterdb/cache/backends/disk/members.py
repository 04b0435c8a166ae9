"""The processes that have a cache file open: who they are, and who of them is gone."""

from __future__ import annotations

from collections.abc import Sequence

from ...members import SILENT_FOR, this_process
from .transaction import Transaction

__all__ = ["forget", "join", "leave"]


def join(transaction: Transaction, address: str, member: int | None = None) -> int:
    """Become a member, or again the ``member`` that was thought to be gone; its number."""
    us, now = this_process(), transaction.rows.now
    found = transaction.rows.run(
        """INSERT INTO members (id, host, pid, program, version, address, started, seen)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id""",
        (member, us.host, us.pid, us.program, us.version, address, now, now),
    ).fetchone()
    number: int = found[0]
    return number


def leave(transaction: Transaction, member: int) -> None:
    """Give back what a member held, and forget it."""
    transaction.rows.run("DELETE FROM claims WHERE member = ?", (member,))
    transaction.rows.run("DELETE FROM members WHERE id = ?", (member,))


def forget(transaction: Transaction, gone: Sequence[str], *, silent_too: bool) -> list[str]:
    """Forget the members whose sockets refuse, and, ``silent_too``, those not heard of for a
    minute; their addresses.
    """
    silent = transaction.rows.run(
        "SELECT id, address FROM members WHERE ? AND id != ? AND seen < ?",
        (silent_too, transaction.rows.member, transaction.rows.now - SILENT_FOR),
    ).fetchall()
    refusing = [
        row
        for address in gone
        for row in transaction.rows.run(
            "SELECT id, address FROM members WHERE address = ?", (address,)
        ).fetchall()
    ]
    for member, _ in [*silent, *refusing]:
        leave(transaction, member)
    return [address for _, address in [*silent, *refusing]]
