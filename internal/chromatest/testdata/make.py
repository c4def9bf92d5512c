"""Make one fixture: a persist directory written by a real Chroma, and what
that Chroma itself says is in it.

    PYTHONPATH=stubs path/to/venv/bin/python make.py OUT.tar.gz

Chroma 0.x wants onnxruntime and tokenizers to be importable; empty stand-ins
in PYTHONPATH do, for no embedding function is ever called here.

The archive holds data/ (the persist directory, after the process that wrote it
has ended) and expected.json (read back through get by a fresh process on a
copy). Floats are written by their bits, so that nothing is lost in JSON.
"""
import json, os, random, shutil, struct, subprocess, sys, tarfile, tempfile


def bits64(x):
    return struct.pack(">d", x).hex()


def tag(v):
    """A value with its kind, exactly."""
    if v is None:
        return None
    if isinstance(v, bool):
        return {"bool": v}
    if isinstance(v, int):
        return {"int": str(v)}
    if isinstance(v, float):
        return {"float": bits64(v)}
    if isinstance(v, str):
        return {"string": v}
    if isinstance(v, (list, tuple)):
        return {"array": [tag(e) for e in v]}
    raise TypeError(type(v))


def version():
    import chromadb
    return tuple(int(x) for x in chromadb.__version__.split(".")[:3])


def vec(rng, dim=4):
    return [struct.unpack("<f", struct.pack("<f", rng.uniform(-2, 2)))[0] for _ in range(dim)]


def fill(c, rng, v, many=26):
    """Put records of every kind into c."""
    meta = [
        {"s": "plain", "i": 1, "f": 1.5, "b": True},
        {"s": "", "i": -1, "f": 0.0, "b": False},
        {"i": 9223372036854775807, "f": 1.7976931348623157e308},
        {"i": -9223372036854775808, "f": 5e-324, "f2": -0.1},
        {"unicode \u00e9\u4e2d\U0001f600": "\u4e2d\U0001f600 \"quoted\" \\ \n\t\u0001"},
        {"i": 9007199254740993, "f": 0.30000000000000004},
        {"long": "x" * 3000},
    ]
    arrays = v >= (1, 5, 0)
    for i in range(many):
        m = dict(meta[i % len(meta)])
        m["n"] = i
        if arrays and i % 3 == 0:
            m["tags"] = ["a", "b\u00e9", "", "a"]
            m["ints"] = [3, -9223372036854775808, 3]
            m["floats"] = [0.5, -1.25]
            m["bools"] = [True, False, True]
        kw = {}
        if i % 2 == 0:
            kw["documents"] = ["document %d \u00e9\u4e2d\U0001f600" % i]
        elif i % 5 == 1:
            kw["documents"] = [""]
        if i % 4 == 0:
            kw["uris"] = ["file:///x/%d?q=1#f" % i]
        ident = "id-%d" % i if i != 3 else "\u00fc id/3 \U0001f600"
        c.add(ids=[ident], embeddings=[vec(rng)], metadatas=[m] if i % 7 != 6 else None, **kw)


def churn(c, rng, v):
    """Update, upsert, delete, re-add; leaves a tail in the queue."""
    null = v >= (0, 4, 13)
    c.update(ids=["id-1"], embeddings=[vec(rng)])
    c.update(ids=["id-2"], metadatas=[{"s": "changed", "new": 7}])
    c.update(ids=["id-4"], embeddings=[vec(rng)], documents=["changed document"])
    c.upsert(ids=["id-5", "up-1"], embeddings=[vec(rng), vec(rng)],
             metadatas=[{"i": "now a string"}, {"k": 2.25}], documents=["five", "up one"])
    c.update(ids=["never-there"], embeddings=[vec(rng)])
    c.delete(ids=["id-7", "id-8", "id-9"])
    c.add(ids=["id-8"], embeddings=[vec(rng)], metadatas=[{"again": True}])
    c.add(ids=["id-1"], embeddings=[vec(rng)], metadatas=[{"ignored": True}])
    if null:
        try:
            c.update(ids=["id-0"], metadatas=[{"s": None, "i": 2}])
        except Exception as e:
            print("null update refused:", e, file=sys.stderr)
    if v >= (1, 5, 0):
        c.update(ids=["id-12"], metadatas=[{"tags": ["z"], "ints": "scalar now"}])
        c.update(ids=["id-15"], metadatas=[{"tags": None}])
        c.update(ids=["id-1"], metadatas=[{"i": [1, 2]}])
    c.delete(ids=["id-11"])
    c.upsert(ids=["id-11"], embeddings=[vec(rng)])
    for i in range(7):
        c.add(ids=["tail-%d" % i], embeddings=[vec(rng)], metadatas=[{"t": i}], documents=["tail"])
    c.update(ids=["tail-1"], embeddings=[vec(rng)])
    c.delete(ids=["tail-2", "id-10"])


def make(path):
    import chromadb
    v = version()
    rng = random.Random(7)
    client = chromadb.PersistentClient(path)
    small = {"hnsw:sync_threshold": 10, "hnsw:batch_size": 5}

    def new(cl, name, **kw):
        return cl.get_or_create_collection(name, embedding_function=None, metadata=dict(small, **kw))

    for space in ("l2", "cosine", "ip"):
        c = new(client, "all-" + space, **{"hnsw:space": space})
        fill(c, rng, v)
        churn(c, rng, v)
    new(client, "empty", note="nothing in it")
    young = client.get_or_create_collection("young", embedding_function=None, metadata={"hnsw:space": "cosine", "f": 2.5, "i": 3})
    fill(young, rng, v, 4)
    gone = new(client, "emptied")
    fill(gone, rng, v, 12)
    gone.delete(ids=[i for i in gone.get(include=[])["ids"]])
    dropped = new(client, "dropped")
    fill(dropped, rng, v, 11)
    client.delete_collection("dropped")
    saved = new(client, "exactly-saved")
    fill(saved, rng, v, 20)
    if v >= (0, 4, 15):
        admin = chromadb.AdminClient(client._system.settings) if hasattr(client, "_system") else None
        from chromadb.config import Settings
        admin = chromadb.AdminClient(Settings(is_persistent=True, persist_directory=path))
        admin.create_tenant("tenant two")
        admin.create_database("second", tenant="tenant two")
        other = chromadb.PersistentClient(path, tenant="tenant two", database="second")
        c = new(other, "all-l2", **{"hnsw:space": "l2"})
        fill(c, rng, v, 15)


def vectors(c, ident):
    """The vector of one record. One at a time, because 0.4.24 stumbles (list
    assignment index out of range) over ids that are in its index and in its
    buffer, when asked for many."""
    try:
        return [float(x) for x in c.get(ids=[ident], include=["embeddings"])["embeddings"][0]]
    except IndexError as e:
        print("no vector of", c.name, ident, ":", e, file=sys.stderr)
        return None


def read(path):
    import chromadb
    v = version()
    out = {"version": ".".join(map(str, v)), "collections": []}
    dbs = [("default_tenant", "default_database")]
    if v >= (0, 4, 15):
        dbs.append(("tenant two", "second"))
    for tenant, database in dbs:
        if len(dbs) > 1:
            client = chromadb.PersistentClient(path, tenant=tenant, database=database)
        else:
            client = chromadb.PersistentClient(path)
        names = [x if isinstance(x, str) else x.name for x in client.list_collections()]
        names = sorted(str(n) for n in names)
        for name in names:
            c = client.get_collection(name, embedding_function=None)
            got = c.get(include=["documents", "metadatas", "uris"])
            got["embeddings"] = [vectors(c, ident) for ident in got["ids"]]
            recs = []
            for k, ident in enumerate(got["ids"]):
                e = got["embeddings"][k]
                m = got["metadatas"][k] or {}
                u = got["uris"][k] if got.get("uris") is not None else None
                recs.append({
                    "id": ident,
                    "vector": None if e is None else b"".join(struct.pack("<f", x) for x in e).hex(),
                    "document": got["documents"][k],
                    "uri": u,
                    "metadata": {key: tag(val) for key, val in m.items()},
                })
            cm = {k: tag(x) for k, x in (c.metadata or {}).items()}
            out["collections"].append({"id": str(c.id), "tenant": tenant, "database": database, "name": name,
                                       "count": c.count(), "metadata": cm, "records": recs})
    return out


def main():
    if sys.argv[1] == "--make":
        return make(sys.argv[2])
    if sys.argv[1] == "--read":
        with open(sys.argv[3], "w") as f:
            json.dump(read(sys.argv[2]), f, indent=0, sort_keys=True)
        return
    work = tempfile.mkdtemp()
    data, copy, expected = (os.path.join(work, n) for n in ("data", "copy", "expected.json"))
    subprocess.run([sys.executable, __file__, "--make", data], check=True)
    shutil.copytree(data, copy)
    subprocess.run([sys.executable, __file__, "--read", copy, expected], check=True)
    with tarfile.open(sys.argv[1], "w:gz") as t:
        t.add(data, "data")
        t.add(expected, "expected.json")
    shutil.rmtree(work)


main()
