"""Confirm and Cancel as messages: handlers for the inboxes of the participants and of the initiator.

The coordinator writes a message for each branch in the transaction of its decision. A participant handles it in the
transaction of its inbox, and answers through an outbox of its own in that same transaction. Whatever is lost on the
way, ``Coordinator.recover`` calls the branch after its grace; the barrier makes the second of the two do nothing.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from contexts.errors import CarveoutError
from migrator.messaging.inbox import Message
from migrator.messaging.outbox import Outbox
from migrator.tcc.coordinator import Coordinator

#: The aggregate type of the answers.
REPLIES = "tcc.replies"


class UnknownMessage(CarveoutError):
    """A message that is none of this protocol."""


class Branch(Protocol):
    """A participant's work, done in an open transaction; its barrier tells whether it was done before."""

    def confirm_in(self, session: Any, gid: uuid.UUID, arguments: Any) -> None:
        """Use what was reserved."""

    def cancel_in(self, session: Any, gid: uuid.UUID, arguments: Any) -> None:
        """Give back what was reserved, where anything was."""


@dataclass(frozen=True)
class Confirming:
    """Handles the messages of one branch: give it to the participant's ``Inbox``.

    :param name: the branch's name in the transaction; its messages come on ``tcc.<name>``.
    :param outbox: of the participant, for its answers.
    """

    name: str
    branch: Branch
    outbox: Outbox

    def __call__(self, session: Any, message: Message) -> None:
        """Confirm or cancel, and answer.

        :raises UnknownMessage: it is neither.
        :raises OutOfOrder: see :class:`~migrator.tcc.barrier.Barrier`.
        """
        body = message.json()
        gid = uuid.UUID(body["gid"])
        match message.kind:
            case "confirm":
                self.branch.confirm_in(session, gid, body["arguments"])
            case "cancel":
                self.branch.cancel_in(session, gid, body["arguments"])
            case kind:
                raise UnknownMessage(f"message {message.id}: {kind!r} is neither confirm nor cancel")
        self.outbox.send(session, REPLIES, gid, "done", {"gid": str(gid), "branch": self.name})


@dataclass(frozen=True)
class Answered:
    """Handles the answers: give it to the initiator's ``Inbox``."""

    coordinator: Coordinator

    def __call__(self, session: Any, message: Message) -> None:
        """Note that a branch is done."""
        body = message.json()
        self.coordinator.done(session, uuid.UUID(body["gid"]), body["branch"])
