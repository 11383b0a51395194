"""Serves one collection with milvus-lite until its standard input ends; prints the address once the rows are in.

Usage: lite_server.py FOLDER FACTS   where FACTS is JSON: collection, base (file of float32, rows x dim), dim, metric.
"""

import json
import sys

import numpy as np
from milvus_lite.server_manager import server_manager_instance
from pymilvus import DataType, MilvusClient

ROWS_AT_ONCE = 1000


def fill(client, facts):
    name = facts["collection"]
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=facts["dim"])
    client.create_collection(name, schema=schema)
    base = np.fromfile(facts["base"], np.float32).reshape(-1, facts["dim"])
    for first in range(0, len(base), ROWS_AT_ONCE):
        client.insert(name, [{"id": first + row, "vector": vector.tolist()}
                             for row, vector in enumerate(base[first:first + ROWS_AT_ONCE])])
    client.flush(name)
    index = client.prepare_index_params()
    index.add_index("vector", index_name="vector", index_type="FLAT", metric_type=facts["metric"])
    client.create_index(name, index)
    client.load_collection(name)


def main():
    uri = server_manager_instance.start_and_get_uri(sys.argv[1])
    client = MilvusClient(uri=uri)
    fill(client, json.loads(sys.argv[2]))
    client.close()
    print(uri.removeprefix("http://"), flush=True)
    sys.stdin.read()


main()
