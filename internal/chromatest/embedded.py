"""Runs an embedded Chroma for the tests of colorfast.

Usage: python embedded.py DIRECTORY. Each line on stdin is a request,
{"id": n, "op": name, ...}; each line on stdout its answer, {"id": n, "error":
text or null, "result": ...}, in the order in which they get done. Requests run
in up to eight threads. End of input ends the program.
"""
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # so that nothing else gets between the answers

import chromadb  # noqa: E402
from chromadb.config import Settings  # noqa: E402

client = chromadb.PersistentClient(sys.argv[1], settings=Settings(anonymized_telemetry=False))
lock = threading.Lock()
known = {}
PAGE = 500
ALL = ["embeddings", "documents", "metadatas", "uris"]


def collection(name):
    if name not in known:
        known[name] = client.get_collection(name, embedding_function=None)
    return known[name]


def create(q):
    more = {"configuration": q["configuration"]} if q.get("configuration") else {}
    known[q["name"]] = client.create_collection(
        q["name"], metadata=q.get("metadata") or None, embedding_function=None, **more)


def drop(q):
    known.pop(q["name"], None)
    client.delete_collection(q["name"])


def write(q):
    col, verb, ids = collection(q["name"]), q["verb"], q["ids"]
    if verb == "delete":
        return col.delete(ids=ids)
    columns = {k: q.get(k) for k in ALL}
    if columns["embeddings"] and not any(v and None in v for v in columns.values()):
        getattr(col, verb)(ids=ids, **columns)
        return
    # The public methods compute vectors where none are given, and refuse
    # columns with holes. What they call does neither.
    getattr(col._client, "_" + verb)(ids=ids, collection_id=col.id, **columns)


def page(col, ids):
    """Reads records; the ones at fault, where it cannot, without vector."""
    try:
        got = col.get(ids=ids, include=ALL)
    except BaseException:  # such as a vector that is not there
        if len(ids) > 1:
            half = len(ids) // 2
            return page(col, ids[:half]) + page(col, ids[half:])
        got = col.get(ids=ids, include=ALL[1:])
    out = []
    for i, id in enumerate(got["ids"]):
        v, d, m, u = (None if got.get(k) is None else got[k][i] for k in ALL)
        out.append({"id": id, "vector": None if v is None else [float(x) for x in v],
                    "document": d, "metadata": m or None, "uri": u})
    return out


def records(q):
    col = collection(q["name"])
    ids = col.get(include=[])["ids"]
    return [r for i in range(0, len(ids), PAGE) for r in page(col, ids[i:i + PAGE])]


OPS = {
    "create": create,
    "drop": drop,
    "write": write,
    "collections": lambda q: [c if isinstance(c, str) else c.name for c in client.list_collections()],
    "count": lambda q: collection(q["name"]).count(),
    "records": records,
    "query": lambda q: collection(q["name"]).query(
        query_embeddings=[q["vector"]], n_results=q["n"], include=["distances"])["ids"][0][:q["n"]],
}


def answer(id, error, result):
    line = json.dumps({"id": id, "error": error, "result": result})
    with lock:
        answers.write(line + "\n")
        answers.flush()


def handle(q):
    try:
        error, result = None, OPS[q["op"]](q)
        if q["op"] == "write":
            result = None
    except BaseException as e:  # Rust panics are no Exceptions
        error, result = "%s: %s" % (type(e).__name__, e), None
    answer(q["id"], error, result)


answer(0, None, chromadb.__version__)
with ThreadPoolExecutor(8) as pool:
    for line in sys.stdin:
        pool.submit(handle, json.loads(line))
