"""Asks what same_script.py does not, above all at the edges; prints {question: answer}.

Usage: questions.py ADDRESS FACTS   where FACTS is JSON: collection, queries (file of float32), dim, metric, other_metric,
rows, far and near (scores that bound a range search); with writes it tries to change the collection instead.

An answer is a value, {"hits": ids} of a search, {"code": number} of a refusal, or {"status": name} of the wire's own.
"""

import json
import sys
import warnings

import grpc
import numpy as np
from pymilvus import AnnSearchRequest, MilvusClient, MilvusException, RRFRanker

FACTS = json.loads(sys.argv[2])
NAME, DIM, ROWS = FACTS["collection"], FACTS["dim"], FACTS["rows"]
QUERIES = np.fromfile(FACTS["queries"], np.float32).reshape(-1, DIM)
CLIENT = MilvusClient(uri=f"http://{sys.argv[1]}")


def search(data=QUERIES[:1].tolist(), limit=4, **options):
    return {"hits": [[hit["id"] for hit in hits] for hits in CLIENT.search(NAME, data, limit=limit, **options)]}


def twins():
    """What is found where each answer is a row and its equal."""
    rows = CLIENT.query(NAME, filter="id in [0, 5, 10, 15]", output_fields=["vector"])
    return search(data=[row["vector"] for row in rows], limit=2)


def within(**bounds):
    return search(limit=50, search_params={"params": bounds})


def with_metric(metric):
    return search(search_params={"metric_type": metric})


def query(expression="", **options):
    """The first ids and how many there are."""
    ids = [row["id"] for row in CLIENT.query(NAME, filter=expression, **{"output_fields": ["id"], **options})]
    return ids[:5] + [len(ids)]


def count(expression="", **options):
    rows = CLIENT.query(NAME, filter=expression, **{"output_fields": ["count(*)"], **options})
    return [row["count(*)"] for row in rows]


def fields_of_hit(**options):
    (hit,) = CLIENT.search(NAME, QUERIES[:1].tolist(), limit=1, **options)[0]
    return sorted(hit["entity"])


def fields_of_row(**options):
    (row,) = CLIENT.query(NAME, filter="id == 3", **options)
    return sorted(row)


def collection():
    found = CLIENT.describe_collection(NAME)
    return {"fields": [[field["field_id"], field["name"], field["type"].name] for field in found["fields"]],
            "level": found["consistency_level_name"], "partitions": found["num_partitions"], "shards": found["num_shards"],
            "dynamic": found["enable_dynamic_field"], "id known": found["collection_id"] != 0}


def index(name="vector"):
    found = CLIENT.describe_index(NAME, name)
    return found and {key: value for key, value in found.items() if key != "params"}


def create_index(kind, metric=FACTS["metric"]):
    params = CLIENT.prepare_index_params()
    params.add_index("vector", index_name="vector", index_type=kind, metric_type=metric)
    CLIENT.create_index(NAME, params)
    return "done"


def hybrid():
    request = AnnSearchRequest(QUERIES[:1].tolist(), "vector", {"metric_type": FACTS["metric"]}, limit=3)
    return len(CLIENT.hybrid_search(NAME, [request], RRFRanker(), limit=3)[0])


def iterated(iterator):
    sizes = []
    while batch := iterator.next():
        sizes.append(len(batch))
    return sizes


def released():
    """What a released collection answers; it is loaded again afterwards."""
    CLIENT.release_collection(NAME)
    try:
        return {"state": CLIENT.get_load_state(NAME)["state"].name, "search": answer(search),
                "query": answer(lambda: query("id < 3")), "rows": CLIENT.get_collection_stats(NAME)["row_count"]}
    finally:
        CLIENT.load_collection(NAME)


NOWHERE = "nothing"
READS = {
    "describe collection": collection,
    "describe index": index,
    "describe index, unknown name": lambda: index(NOWHERE),
    "has collection, unknown": lambda: CLIENT.has_collection(NOWHERE),
    "describe collection, unknown": lambda: CLIENT.describe_collection(NOWHERE),
    "search, unknown collection": lambda: CLIENT.search(NOWHERE, QUERIES[:1].tolist(), limit=3),
    "query, unknown collection": lambda: CLIENT.query(NOWHERE, filter="id == 1"),
    "load, unknown collection": lambda: CLIENT.load_collection(NOWHERE),
    "load state, unknown collection": lambda: CLIENT.get_load_state(NOWHERE)["state"].name,
    "describe database, unknown": lambda: CLIENT.describe_database(NOWHERE),
    "describe alias, unknown": lambda: CLIENT.describe_alias(NOWHERE),
    "has partition, unknown": lambda: CLIENT.has_partition(NAME, NOWHERE),
    "search, unknown partition": lambda: search(partition_names=[NOWHERE]),
    "query, unknown partition": lambda: query("id < 3", partition_names=[NOWHERE]),
    "search, default partition": lambda: search(partition_names=["_default"]),
    "search, unknown vector field": lambda: search(anns_field=NOWHERE),
    "search, unknown output field": lambda: search(output_fields=[NOWHERE]),
    "query, unknown output field": lambda: query("id == 1", output_fields=[NOWHERE]),
    "filter, unknown field": lambda: search(filter="color == 1"),
    "filter, vector": lambda: query("vector == 3"),
    "filter, half an expression": lambda: query("id =="),
    "search, limit of all rows": lambda: search(limit=ROWS),
    "search, limit above all rows": lambda: search(limit=16385),
    "search, twins": twins,
    "search, offset": lambda: search(offset=3),
    "search, offset past the end": lambda: search(offset=5000),
    "search, offset below 0": lambda: search(offset=-1),
    "search, the metric in small letters": lambda: with_metric(FACTS["metric"].lower()),
    "search, another metric": lambda: with_metric(FACTS["other_metric"]),
    "search, no metric at all": lambda: with_metric("HAMMING"),
    "search, nprobe": lambda: search(search_params={"params": {"nprobe": 3}}),
    "search, strong consistency": lambda: search(consistency_level="Strong"),
    "range, radius": lambda: within(radius=FACTS["far"]),
    "range, both bounds": lambda: within(radius=FACTS["far"], range_filter=FACTS["near"]),
    "range, range_filter alone": lambda: within(range_filter=FACTS["near"]),
    "range, bounds reversed": lambda: within(radius=FACTS["near"], range_filter=FACTS["far"]),
    "range, radius no number": lambda: within(radius="x"),
    "search, no row passes the filter": lambda: search(data=QUERIES[:2].tolist(), filter="id == 1000000000"),
    "search, five rows pass the filter": lambda: search(limit=20, filter="id in [2, 3, 4, 7, 8]"),
    "search, grouped by id": lambda: search(group_by_field="id"),
    "search, grouped by an unknown field": lambda: search(group_by_field=NOWHERE),
    "search, by ids": lambda: search(data=None, ids=[3]),
    "search, one value too many": lambda: search(data=[[0.0] * (DIM + 1)]),
    "search, one value too few": lambda: search(data=[[0.0] * (DIM - 1)]),
    "search, zero vector": lambda: len(search(data=[[0.0] * DIM])["hits"][0]),
    "search, infinity": lambda: len(search(data=[[float("inf")] * DIM])["hits"][0]),
    "search, float16": lambda: search(data=[QUERIES[0].astype(np.float16)]),
    "search, int8": lambda: len(search(data=[(QUERIES[0] * 3).astype(np.int8)])["hits"][0]),
    "search, binary": lambda: search(data=[b"x" * (DIM // 8)]),
    "search, text": lambda: search(data=["hello"]),
    "search, sparse": lambda: search(data=[{1: 0.5}]),
    "fields of a hit": fields_of_hit,
    "fields of a hit, *": lambda: fields_of_hit(output_fields=["*"]),
    "fields of a hit, id": lambda: fields_of_hit(output_fields=["id"]),
    "fields of a row": fields_of_row,
    "fields of a row, *": lambda: fields_of_row(output_fields=["*"]),
    "fields of a row, vector": lambda: fields_of_row(output_fields=["vector"]),
    "count": count,
    "count, filter": lambda: count("id < 7"),
    "count, no row": lambda: count("id < 0"),
    "count, limit": lambda: count("id < 7", limit=3),
    "count, another field": lambda: count("id < 7", output_fields=["id", "count(*)"]),
    "query, nothing given": query,
    "query, limit alone": lambda: query(limit=5),
    "query, limit 0": lambda: query("id < 5", limit=0),
    "query, limit above all rows": lambda: query("id >= 0", limit=16385),
    "query, offset alone": lambda: query("id < 5", offset=2),
    "query, ids not in order": lambda: query("id in [9, 3, 5]"),
    "get, ids not in order": lambda: [row["id"] for row in CLIENT.get(NAME, ids=[9, 3, 5])],
    "get, an id twice": lambda: [row["id"] for row in CLIENT.get(NAME, ids=[9, 3, 3])],
    "filter, and": lambda: query("10 < id && id < 14 and id != 12"),
    "filter, or": lambda: query("id > 1995 or id < 2"),
    "filter, not": lambda: query("not (id < 1997)"),
    "filter, not in": lambda: query("id not in [1, 2]"),
    "filter, in nothing": lambda: query("id in []"),
    "filter, fraction": lambda: query("id == 3.0") + query("id == 3.5"),
    "filter, true": lambda: query("true"),
    "filter, chained": lambda: query("10 < id < 14"),
    "filter, arithmetic": lambda: query("id + 1 == 3"),
    "filter, modulo": lambda: query("id % 2 == 0"),
    "filter, null": lambda: query("id is null"),
    "filter, beyond 64 bits": lambda: query("id == 99999999999999999999"),
    "filter, template": lambda: query("id in {ids}", filter_params={"ids": [4, 2]}),
    "query iterator": lambda: iterated(CLIENT.query_iterator(NAME, filter="id < 250", batch_size=100)),
    "query iterator, all rows": lambda: iterated(CLIENT.query_iterator(NAME, batch_size=1000)),
    "search iterator": lambda: iterated(CLIENT.search_iterator(NAME, QUERIES[:1].tolist(), batch_size=100, limit=250)),
    "partitions": lambda: CLIENT.list_partitions(NAME),
    "databases": CLIENT.list_databases,
    "aliases": lambda: CLIENT.list_aliases(NAME)["aliases"],
    "flush": lambda: CLIENT.flush(NAME),
    "replicas": lambda: len(CLIENT.describe_replica(NAME)),
    "segments": lambda: len(CLIENT.list_persistent_segments(NAME)),
    "users": CLIENT.list_users,
    "compact": lambda: CLIENT.compact(NAME),
    "hybrid search": hybrid,
    "released": released,
    "search, after release and load": search,
}

ROW = [{"id": ROWS, "vector": [0.0] * DIM}]
WRITES = {
    "create index, same": lambda: create_index("FLAT"),
    "create index, another kind": lambda: create_index("HNSW"),
    "create index, another metric": lambda: create_index("FLAT", FACTS["other_metric"]),
    "drop index": lambda: CLIENT.drop_index(NAME, "vector"),
    "insert": lambda: CLIENT.insert(NAME, ROW)["insert_count"],
    "upsert": lambda: CLIENT.upsert(NAME, ROW)["upsert_count"],
    "delete": lambda: list(CLIENT.delete(NAME, filter=f"id == {ROWS}")),
    "create alias": lambda: CLIENT.create_alias(NAME, "other"),
    "create partition": lambda: CLIENT.create_partition(NAME, "part"),
    "create collection": lambda: CLIENT.create_collection("more", dimension=4),
    "create database": lambda: CLIENT.create_database("db"),
    "drop collection, unknown": lambda: CLIENT.drop_collection(NOWHERE),
    "rename collection": lambda: CLIENT.rename_collection(NAME, "renamed"),
    "truncate collection": lambda: CLIENT.truncate_collection("renamed"),
    "drop collection": lambda: CLIENT.drop_collection("renamed"),
}


def answer(question):
    try:
        return question()
    except MilvusException as error:
        return {"code": error.code}
    except grpc.RpcError as error:
        return {"status": error.code().name}


def main():
    warnings.simplefilter("ignore")
    questions = WRITES if FACTS.get("writes") else READS
    print(json.dumps({name: answer(question) for name, question in questions.items()}))


main()
