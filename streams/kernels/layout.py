"""Where things stand in the arrays that the kernels and the state share."""

from typing import Final

import numpy as np

# Columns of a staged row.
R_IDENTITY: Final = 0
R_TIME: Final = 1
R_USER: Final = 2
R_SESSION: Final = 3
R_KIND: Final = 4
R_QUERY: Final = 5
R_ITEM: Final = 6
R_ANSWER: Final = 7
"""Model tag, arm and rung of the ranking that the event names, packed; see `ANSWER_*`."""
R_SERVED: Final = 8
"""Bucket in which that ranking was served, or `NO_BUCKET`."""
R_BUCKET: Final = 9
R_POSITION: Final = 10
ROW_WIDTH: Final = 11

NO_BUCKET: Final = -(1 << 62)

# Kinds, as in streams.kinds; spelled out because a kernel cannot read an enum.
SEARCH: Final = 0
CLICK: Final = 1
CART: Final = 2
PURCHASE: Final = 3
VIEW: Final = 4
ITEM: Final = 5
SERVED: Final = 6
IMPRESSION: Final = 7
FEEDBACK: Final = 8

# Tags: what a counter counts. They are hashed into digests, so they never change their meaning.
TAG_QUERY_ITEM: Final = np.uint64(1)
TAG_ITEM_KIND: Final = np.uint64(2)
TAG_PAIR: Final = np.uint64(3)
TAG_SERVED: Final = np.uint64(4)
TAG_ANSWER_CLICK: Final = np.uint64(5)
TAG_IMPRESSION: Final = np.uint64(6)
TAG_FEEDBACK: Final = np.uint64(7)
TAG_HISTORY: Final = np.uint64(8)
TAG_USER: Final = np.uint64(9)
"""Only in change rows: the first entry of a user in a bucket."""

# Fill levels of a unit (`fill`).
N_IDENTITIES: Final = 0
N_COUNTERS: Final = 1
N_ANSWERS: Final = 2
N_USERS: Final = 3
N_NODES: Final = 4
FREE_NODE: Final = 5
"""First of the chain of unused nodes, -1 when there is none."""
N_ZERO_COUNTERS: Final = 6
N_CHANGES: Final = 7
N_FOREIGN: Final = 8
N_DUPLICATES: Final = 9
FILL_WIDTH: Final = 10

# Digest lanes of a unit: two for each table.
L_IDENTITIES: Final = 0
L_COUNTERS: Final = 2
L_ANSWERS: Final = 4
L_HISTORY: Final = 6
LANES: Final = 8
