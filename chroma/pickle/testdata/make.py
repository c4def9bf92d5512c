"""Makes the pickles in this directory that no small real segment has.

    v-0.6.3/bin/python make.py

Chroma's own class is pickled by Python's own pickler with every protocol that
a release could have used, and with more ids than one SETITEMS group or the
one-byte memo opcodes hold. testdata of ../../hnsw has pickles out of real
segments, Rust's included.
"""

import os, pickle, sys

from chromadb.segment.impl.vector.local_persistent_hnsw import PersistentData

HERE = os.path.dirname(os.path.abspath(__file__))


def make(name, protocol, ids, first=(), **extra):
    d = PersistentData(3, len(ids), {s: k + 1 for k, s in enumerate(ids)},
                       {k + 1: s for k, s in enumerate(ids)}, {s: k + 70000 for k, s in enumerate(ids)})
    d.__dict__.update(extra)
    for key in first:  # the order of the keys is the order of their first setting
        d.__dict__ = {key: d.__dict__[key], **d.__dict__}
    with open(os.path.join(HERE, name + ".pickle"), "wb") as f:
        pickle.dump(d, f, protocol)


few = ["a", "ünï-日本", "y" * 300]
for p in range(2, 6):
    make("python-protocol-%d" % p, p, few)
make("python-1-id", 5, few[:1])
make("python-no-id", 5, [])
make("python-1000-ids", 5, ["%03d" % k for k in range(1000)])
make("python-1001-ids", 4, ["%03d" % k for k in range(1001)])
make("python-seq-1-byte", 5, few, max_seq_id=7)
make("python-seq-2-bytes", 5, few, max_seq_id=70)
make("python-seq-3-bytes", 5, few, max_seq_id=70000)
make("python-seq-8-bytes", 5, few, max_seq_id=2**40 + 1)
make("python-seq-none", 5, few, max_seq_id=None)
make("python-big-id", 5, few + ["z" * 70000])
make("python-labels-first", 5, few + ["z" * 70000, "b"], first=["label_to_id"])
make("python-1-label-first", 4, few[1:2], first=["label_to_id"])
make("python-more-keys", 5, few, later={"a": [1, 2.5, (3, None, b"x"), {"b": {}}, True], "id_to_label": {"q": 1}},
     other=(), many=(1, 2, 3, 4, 5), bytes=b"y" * 300)
