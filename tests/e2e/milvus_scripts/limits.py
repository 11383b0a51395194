"""Asks for too much, and then for something reasonable; prints the codes.

Usage: limits.py ADDRESS FACTS   where FACTS is JSON: collection, dim; with many and rows it asks for that many queries
instead, once with a deadline that they can't meet, and for all rows.
"""

import json
import sys

import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

ADDRESS, FACTS = sys.argv[1], json.loads(sys.argv[2])
STUB = milvus_pb2_grpc.MilvusServiceStub(grpc.insecure_channel(ADDRESS))


def search(nq, limit, timeout=20):
    rows = np.zeros((nq, FACTS["dim"]), np.float32)
    value = common_pb2.PlaceholderValue(tag="$0", type=101, values=[row.tobytes() for row in rows])
    request = milvus_pb2.SearchRequest(
        collection_name=FACTS["collection"], nq=nq,
        placeholder_group=common_pb2.PlaceholderGroup(placeholders=[value]).SerializeToString(),
        search_params=[common_pb2.KeyValuePair(key="topk", value=str(limit))])
    try:
        return STUB.Search(request, timeout=timeout).status.code
    except grpc.RpcError as error:
        return error.code().name


if "many" in FACTS:
    print(json.dumps({"many": search(FACTS["many"], 3, timeout=60), "late": search(FACTS["many"], 50, timeout=0.02),
                      "all": search(2, FACTS["rows"])}))
    sys.exit()
print(json.dumps({"huge": search(5000, 300), "after": search(3, 5)}))
