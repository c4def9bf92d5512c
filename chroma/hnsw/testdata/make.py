"""Makes the segment fixtures in this directory with real Chromas.

    for v in 0.4.24 0.5.23 0.6.3 1.5.9; do v-$v/bin/python make.py; done

Each fixture is NAME/ (one segment directory as Chroma left it) and NAME.json
(what Chroma's own get returned for it). NAME is VERSION-SPACE-STAGE; stage b
is the same segment as stage a after more writes and a later save. Every stage
ends on a call that saved, so that files and answers are of one moment. Small
dimensions and M keep the files small: Python-era Chroma always writes room for
1000 elements.
"""

import json, os, random, shutil, sys, tempfile

import chromadb
from chromadb.config import Settings

HERE = os.path.dirname(os.path.abspath(__file__))
BINS = ("header.bin", "data_level0.bin", "length.bin", "link_lists.bin")
PICKLE = "index_metadata.pickle"


class Segment:
    def __init__(self, space, dim, m, sync):
        self.space, self.dim = space, dim
        self.dir = tempfile.mkdtemp()
        self.rng = random.Random(space)
        self.next = 0
        client = chromadb.PersistentClient(self.dir, Settings(anonymized_telemetry=False))
        self.col = client.get_or_create_collection(
            "name", embedding_function=None,
            metadata={"hnsw:space": space, "hnsw:M": m, "hnsw:sync_threshold": sync, "hnsw:batch_size": 5},
        )

    def vector(self):
        return [self.rng.uniform(-3, 3) for _ in range(self.dim)]

    def ids(self, n):
        out = []
        for _ in range(n):
            self.next += 1
            out.append({7: "ünï-%d-日本", 8: "x" * 300 + "%d"}.get(self.next, "id-%d") % self.next)
        return out

    def add(self, ids):
        self.col.add(ids=ids, embeddings=[self.vector() for _ in ids], documents=["d"] * len(ids))

    def update(self, ids):
        self.col.update(ids=ids, embeddings=[self.vector() for _ in ids])

    def delete(self, ids):
        self.col.delete(ids=ids)

    def folder(self):
        found = [d for d in os.listdir(self.dir) if os.path.isdir(os.path.join(self.dir, d))]
        assert len(found) <= 1, found
        return os.path.join(self.dir, found[0]) if found else None

    def saved(self):
        f = os.path.join(self.folder(), PICKLE)
        return os.stat(f).st_mtime_ns if os.path.exists(f) else 0

    def until_saved(self):
        before, n = self.saved(), 0
        while self.saved() == before:
            self.add(self.ids(1))
            n += 1
            assert n < 1000

    def keep(self, name):
        out = os.path.join(HERE, name)
        shutil.rmtree(out, ignore_errors=True)
        os.mkdir(out)
        for f in BINS + (PICKLE,):
            p = os.path.join(self.folder(), f)
            if os.path.exists(p):
                shutil.copyfile(p, os.path.join(out, f))
        got = self.col.get(include=["embeddings"])
        vectors = {i: [float(x) for x in e] for i, e in zip(got["ids"], got["embeddings"])}
        with open(out + ".json", "w") as f:
            json.dump({"chroma": chromadb.__version__, "space": self.space, "dimension": self.dim,
                       "vectors": vectors}, f, indent=None, ensure_ascii=False)
            f.write("\n")
        print(name, len(vectors), {f: os.path.getsize(os.path.join(out, f)) for f in os.listdir(out)})


def life(space, dim, m, prefix):
    s = Segment(space, dim, m, 10)
    ids = s.ids(40)
    s.add(ids)
    s.update(ids[5:9])
    s.delete(ids[10:20])
    s.add(ids[10:13])  # the same ids again, under new labels
    if space == "cosine":
        s.col.add(ids=["zero"], embeddings=[[0.0] * dim], documents=["d"])
    s.until_saved()
    s.keep(prefix + "-%s-a" % space)
    s.update(ids[20:24])
    s.delete(ids[30:34] + ids[10:11])
    s.add(s.ids(70))
    s.until_saved()
    s.keep(prefix + "-%s-b" % space)


def gaps(s):
    """Adds, upserts and deletes a record within one batch, which Python-era
    Chroma counts as an added element though it never becomes one."""
    for _ in range(12):
        passing = s.ids(1)
        s.add(passing)
        s.col.upsert(ids=passing, embeddings=[s.vector()])
        s.delete(passing)
        s.add(s.ids(3))


def main():
    v = chromadb.__version__
    if v.startswith("1."):
        life("l2", 4, 4, "rust")
        life("cosine", 4, 4, "rust")
        s = Segment("l2", 4, 4, 10)
        s.add(s.ids(3))
        s.keep("rust-young")
        s = Segment("ip", 4, 4, 10)
        ids = s.ids(20)
        s.add(ids)
        s.delete(ids)
        s.keep("rust-emptied")  # everything deleted, saved
        s = None
        recreated("rust-recreated")
    elif v.startswith("0.6"):
        life("l2", 3, 3, "py063")
        s = Segment("l2", 3, 3, 10)
        s.add(s.ids(6))
        s.keep("py063-young")
        s = Segment("l2", 3, 3, 10)
        gaps(s)
        s.until_saved()
        s.keep("py063-gaps")
    elif v.startswith("0.5"):
        life("cosine", 3, 3, "py0523")
    else:
        life("ip", 3, 3, "py0424")
    sys.stdout.flush()
    os._exit(0)  # some releases spin at exit


def recreated(name):
    """Everything deleted and saved, then opened again by another process and
    written to: Chroma starts the four files anew and leaves the pickle."""
    s = Segment("l2", 4, 4, 10)
    ids = s.ids(20)
    s.add(ids)
    s.delete(ids)
    pid = os.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, os.path.abspath(__file__), "--again", s.dir, name])
    os.waitpid(pid, 0)


def again(dir, name):
    s = Segment.__new__(Segment)
    s.space, s.dim, s.dir, s.rng, s.next = "l2", 4, dir, random.Random("again"), 100
    s.col = chromadb.PersistentClient(dir, Settings(anonymized_telemetry=False)).get_collection("name", embedding_function=None)
    s.add(s.ids(3))
    s.keep(name)
    sys.stdout.flush()
    os._exit(0)


if len(sys.argv) == 4 and sys.argv[1] == "--again":
    again(*sys.argv[2:])
main()
