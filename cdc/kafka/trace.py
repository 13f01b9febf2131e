"""What a failed task says, without the values of any row: Connect shows the whole trace of Java, which may hold some.

Kept are the classes of the errors, and the first line of the innermost one's message where it comes from the server's
driver, the network or Kafka's client. What stands there in quotes goes too, unless it is a name of ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_ERROR = re.compile(r"(?:Caused by: )?(?:\w+\.)+(\w*(?:Exception|Error))(?:: (.*))?")
#: Packages whose messages are about servers, slots and sizes, not about rows.
_TELLING = ("org.postgresql.", "java.net.", "org.apache.kafka.common.errors.")
_QUOTED = re.compile(r"\"[^\"]*\"?|'[^']*'?")
_MESSAGE_CHARACTERS = 300


def shown(trace: str, names: Collection[str] = ()) -> str:
    """The errors of a trace, outermost first, and what the innermost says; empty where there is no trace.

    :param names: what may stand in quotes: slots, publications, tables.
    """
    found = [(line, match) for line in trace.splitlines() if (match := _ERROR.fullmatch(line.rstrip()))]
    if not found:
        return "an error without a name" if trace.strip() else ""
    chain = " <- ".join(match[1] for _, match in found)
    line, match = found[-1]
    if not match[2] or not line.removeprefix("Caused by: ").startswith(_TELLING):
        return chain
    return f"{chain}: {_QUOTED.sub(lambda quoted: _kept(quoted[0], names), match[2])[:_MESSAGE_CHARACTERS]}"


def _kept(quoted: str, names: Collection[str]) -> str:
    return quoted if quoted.strip("\"'") in names else f"{quoted[0]}...{quoted[0]}"
