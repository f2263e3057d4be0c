"""Batches for Faust: batched topics, and tables that write and mark once per batch. Knows nothing of email.

Faust pays for tasks, flow control, acknowledgements, changelog sends and RocksDB writes per event; this package pays for them per batch,
through Faust's own extension points: transport and store URL schemes, ``Settings`` classes, ``Schema``, ``Table``. Agents stay Faust
agents and tables stay Faust tables, with changelog topics, standbys and the assignor.

One step of work is a *unit* (commit.py): a run of source records of one partition, the table values they changed, the marks of what was
applied, and the records they cause elsewhere. A unit is written in this order, and the next unit of the partition only after it:

1. its outputs, acknowledged by all replicas;
2. one changelog record batch with the values and the marks: the broker appends it whole or not at all;
3. one RocksDB write batch with the same records and the changelog offset: the local store is always an exact prefix of the changelog;
4. the acknowledgement of the source records, whose offset may now be committed.

A write costs much the same whatever is in it. So the broker collects what comes in for some milliseconds before it hands it out
(source.py), and the units of a partition that are made while others are on their way go through the four steps together (commit.py).

A batch is applied in steps of a twentieth of a second, and while something urgent goes on, in steps of some milliseconds that take turns
with all others', so that the loop goes round between two of them (turns.py); not at other times, for small steps make small writes.

A crash anywhere replays records; those at or below the mark are skipped. Any failure stops the process: nothing is logged and forgotten.
A process that comes back reads the tail of its changelogs; a local store that is damaged, or is of another log, is thrown away (rocks.py,
recovery.py) and made again from the start of its changelog.

What is deliberately absent: Faust's fetch loop (source.py reads each generation afresh, from committed offsets), Faust's recovery
(recovery.py has a reader of its own), transactions (fence.py keeps one writer per partition with producer epochs alone), windows, and
per-event sensors.
"""

from app.engine.app import EngineApp, EngineOptions
from app.engine.broadcast import Broadcast
from app.engine.commit import Unit
from app.engine.table import Codec, PartitionState, Table
from app.engine.turns import Priority

__all__ = ["Broadcast", "Codec", "EngineApp", "EngineOptions", "PartitionState", "Priority", "Table", "Unit"]
