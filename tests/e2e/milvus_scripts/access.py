"""Tries tokens one after the other; prints which of them were let in.

Usage: access.py ADDRESS FACTS   where FACTS is JSON: collection, dim, tokens, and certificate for TLS.
"""

import base64
import json
import pathlib
import sys

import grpc
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc


def raw_channel(address, facts):
    if "certificate" not in facts:
        return grpc.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(pathlib.Path(facts["certificate"]).read_bytes())
    return grpc.secure_channel(f"localhost:{address.rsplit(':', 1)[1]}", credentials)


def is_admitted(address, facts, token):
    """Over the raw wire, where a refusal has its own status; an admitted token is tried with the client as well."""
    stub = milvus_pb2_grpc.MilvusServiceStub(raw_channel(address, facts))
    metadata = [("authorization", base64.b64encode(token.encode()).decode())] if token else []
    try:
        stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=10, metadata=metadata)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
        return False
    if token:
        client = MilvusClient(uri=f"http://{address}", token=token)
        assert len(client.search(facts["collection"], [[0.0] * facts["dim"]], limit=2)[0]) == 2
    return True


def main():
    address, facts = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps({"admitted": [is_admitted(address, facts, token) for token in facts["tokens"]]}))


main()
