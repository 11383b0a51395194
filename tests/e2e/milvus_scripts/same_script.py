"""What any version of pymilvus does with a served collection, ORM and MilvusClient style; prints what it found.

Usage: same_script.py ADDRESS FACTS   where FACTS is JSON: collection, queries (file of float32, nq x dim), dim, k,
metric. It runs in the client's own environment and imports nothing of the tests.
"""

import json
import sys

import numpy as np
from pymilvus import Collection, MilvusClient, connections, utility


def plain(hits):
    """[[id, distance], ...] for each query."""
    return [[[int(hit.id), float(hit.distance)] for hit in one] for one in hits]


def orm_style(address, facts, queries, found):
    host, port = address.rsplit(":", 1)
    connections.connect("default", host=host, port=port)
    name = facts["collection"]
    assert utility.list_collections() == [name], utility.list_collections()
    assert utility.has_collection(name) and not utility.has_collection("nothing")
    collection = Collection(name)
    schema = {field.name: field for field in collection.schema.fields}
    assert collection.primary_field.name == "id" and schema["vector"].params["dim"] == facts["dim"], schema
    collection.load()
    assert utility.loading_progress(name)["loading_progress"] == "100%"
    found["num_entities"] = collection.num_entities
    assert [partition.name for partition in collection.partitions] == ["_default"]
    assert collection.has_index() and collection.index().params["metric_type"] == facts["metric"]
    params = {"metric_type": facts["metric"], "params": {"nprobe": 10}}
    found["orm"] = plain(collection.search(list(queries), "vector", params, limit=facts["k"]))
    with_offset = {**params, "offset": 3}
    found["orm_offset"] = plain(collection.search(list(queries), "vector", with_offset, limit=facts["k"] - 3))
    found["orm_rounded"] = plain(collection.search(list(queries), "vector", params, limit=3, round_decimal=2))
    rows = collection.query("id in [5, 3, 4]", output_fields=["id", "vector"])
    found["orm_rows"] = [[int(row["id"]), [float(value) for value in row["vector"]]] for row in rows]
    connections.disconnect("default")


def client_style(address, facts, queries, found):
    client = MilvusClient(uri=f"http://{address}")
    name = facts["collection"]
    assert client.list_collections() == [name]
    description = client.describe_collection(name)
    assert [field["name"] for field in description["fields"]] == ["id", "vector"], description
    assert client.list_indexes(name) == ["vector"]
    assert client.describe_index(name, "vector")["metric_type"] == facts["metric"]
    hits = client.search(name, [list(map(float, query)) for query in queries], limit=facts["k"])
    found["client"] = [[[int(hit["id"]), float(hit["distance"])] for hit in one] for one in hits]
    found["client_filtered"] = [
        [[int(hit["id"]), float(hit["distance"])] for hit in one]
        for one in client.search(name, [list(map(float, query)) for query in queries], limit=5,
                                 filter="id >= 10 and id not in [11, 12]", output_fields=["id", "vector"])]
    rows = client.get(name, ids=[7, 2, 10**9])
    found["client_rows"] = [[int(row["id"]), [float(value) for value in row["vector"]]] for row in rows]
    rows = client.query(name, filter="id < 20", limit=4, offset=2, output_fields=["id"])
    found["client_page"] = [int(row["id"]) for row in rows]
    assert client.query(name, filter="id == 1000000000") == []
    found["count"] = int(client.query(name, output_fields=["count(*)"])[0]["count(*)"])
    try:
        client.delete(name, ids=[1])
        found["write"] = "accepted"
    except Exception as error:
        found["write"] = str(error)
    client.close()


def iterators(address, facts, queries, found):
    host, port = address.rsplit(":", 1)
    connections.connect("default", host=host, port=port)
    collection = Collection(facts["collection"])
    iterator = collection.query_iterator(batch_size=70, expr="id < 200", output_fields=["id"])
    ids = []
    while batch := iterator.next():
        ids += [int(row["id"]) for row in batch]
    iterator.close()
    found["query_iterator"] = ids
    iterator = collection.search_iterator(queries[:1], "vector", {"metric_type": facts["metric"], "params": {}},
                                          batch_size=20, limit=60)
    hits = []
    while len(batch := iterator.next()) > 0:
        hits += [[int(hit.id), float(hit.distance)] for hit in batch]
    iterator.close()
    found["search_iterator"] = hits
    connections.disconnect("default")


def main():
    address, facts = sys.argv[1], json.loads(sys.argv[2])
    queries = np.fromfile(facts["queries"], np.float32).reshape(-1, facts["dim"])
    found = {}
    orm_style(address, facts, queries, found)
    client_style(address, facts, queries, found)
    iterators(address, facts, queries, found)
    print(json.dumps(found))


main()
