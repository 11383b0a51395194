"""The acceptance list of the Milvus protocol, one function a point, over raw stubs; prints {point: "ok" or what failed}.

Usage: wire_checklist.py ADDRESS FACTS   where FACTS is JSON: collection, rows, dim, base, queries (files of float32).
"""

import json
import re
import struct
import sys
import traceback

import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

ADDRESS, FACTS = sys.argv[1], json.loads(sys.argv[2])
NAME, ROWS, DIM = FACTS["collection"], FACTS["rows"], FACTS["dim"]
BASE = np.fromfile(FACTS["base"], np.float32).reshape(-1, DIM)
QUERIES = np.fromfile(FACTS["queries"], np.float32).reshape(-1, DIM)
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
STUB = milvus_pb2_grpc.MilvusServiceStub(grpc.insecure_channel(ADDRESS, OPTIONS))


def placeholders(values, kind=common_pb2.PlaceholderType.FloatVector):
    value = common_pb2.PlaceholderValue(tag="$0", type=kind, values=values)
    return common_pb2.PlaceholderGroup(placeholders=[value]).SerializeToString()


def pairs(**parameters):
    return [common_pb2.KeyValuePair(key=key, value=value if isinstance(value, str) else json.dumps(value))
            for key, value in parameters.items()]


def search_request(queries=QUERIES, group=None, nq=None, collection=NAME, limit=5, dsl="", output_fields=(), **parameters):
    queries = np.asarray(queries, np.float32)
    return milvus_pb2.SearchRequest(
        collection_name=collection, dsl=dsl, dsl_type=1, nq=len(queries) if nq is None else nq,
        placeholder_group=placeholders([row.tobytes() for row in queries]) if group is None else group,
        output_fields=output_fields, search_params=pairs(**{"topk": limit, "params": {}, **parameters}))


def search(*args, **options):
    answer = STUB.Search(search_request(*args, **options), timeout=20)
    return answer


def query(expr, output_fields=("id",), **parameters):
    return STUB.Query(milvus_pb2.QueryRequest(collection_name=NAME, expr=expr, output_fields=output_fields,
                                              query_params=pairs(**parameters)), timeout=20)


def check_error(status, code, legacy=None):
    assert status.code == code, status
    assert status.error_code != 0 and (legacy is None or status.error_code == legacy), status
    assert status.reason and status.detail, status
    assert not status.extra_info, status


def check_ok(status):
    assert status.code == 0 and status.error_code == 0, status


def exact_ids(query_row, k, rows=None):
    rows = np.arange(ROWS) if rows is None else rows
    scores = ((BASE[rows].astype(np.float64) - query_row.astype(np.float64)) ** 2).sum(axis=1).astype(np.float32)
    return rows[np.lexsort((rows, scores))][:k].tolist()


def rows_of_hits(data):
    """ids of the hits, query by query."""
    ids, at, rows = list(data.ids.int_id.data), 0, []
    for count in data.topks:
        rows.append(ids[at:at + count])
        at += count
    assert at == len(ids) == len(data.scores), (at, len(ids), len(data.scores))
    return rows


def point_01_errors_are_in_the_status_with_both_codes():
    check_error(search(collection="nothing").status, 100, common_pb2.CollectionNotExists)
    check_error(search(limit=0).status, 1100, common_pb2.IllegalArgument)
    check_error(search(group=b"\xff\xff\xff").status, 1100, common_pb2.IllegalArgument)
    check_error(query("id ==").status, 1100, common_pb2.IllegalArgument)
    for call, request in [(STUB.HybridSearch, milvus_pb2.HybridSearchRequest(collection_name=NAME)),
                          (STUB.DropCollection, milvus_pb2.DropCollectionRequest(collection_name=NAME))]:
        answer = call(request, timeout=20)
        status = getattr(answer, "status", answer)
        assert status.code != 0 and status.error_code != 0, status
    try:
        STUB.SelectRole(milvus_pb2.SelectRoleRequest(), timeout=20)
        raise AssertionError("an RPC that is not there was answered")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED and "mpishards" in error.details(), error


def point_02_pings_and_large_messages_are_allowed():
    pinging = grpc.insecure_channel(ADDRESS, OPTIONS + [
        ("grpc.keepalive_time_ms", 5100), ("grpc.keepalive_timeout_ms", 2000),
        ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)])
    stub = milvus_pb2_grpc.MilvusServiceStub(pinging)
    stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=20)
    states = []
    pinging.subscribe(states.append)
    many = np.tile(QUERIES, (1 + 6_000_000 // QUERIES.nbytes, 1))
    answer = search(many, limit=1)
    check_ok(answer.status)
    assert len(answer.results.topks) == len(many)
    import time
    time.sleep(11)  # two pings without a call
    stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=20)
    assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states and grpc.ChannelConnectivity.IDLE not in states[1:], states


def point_03_the_database_is_in_the_header():
    def describe(metadata, **fields):
        return STUB.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=NAME, **fields), timeout=20,
                                       metadata=metadata).status
    check_ok(describe([("dbname", "default")]))
    check_ok(describe([("dbname", "")]))
    check_ok(describe([]))
    check_error(describe([("dbname", "other")]), 800)
    check_ok(describe([("dbname", "other")], db_name="default"))


def point_04_the_schema_is_complete():
    answer = STUB.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=NAME), timeout=20)
    check_ok(answer.status)
    identifier, vector = answer.schema.fields
    assert (identifier.fieldID, identifier.name, identifier.data_type, identifier.is_primary_key, identifier.autoID) == (
        100, "id", schema_pb2.Int64, True, False)
    assert (vector.fieldID, vector.name, vector.data_type) == (101, "vector", schema_pb2.FloatVector)
    assert [(pair.key, pair.value) for pair in vector.type_params] == [("dim", str(DIM))]
    assert not answer.schema.enable_dynamic_field and answer.schema.name == NAME
    assert answer.collectionID > 0 and answer.shards_num >= 1 and answer.created_timestamp >> 18 > 1_600_000_000_000
    again = STUB.DescribeCollection(milvus_pb2.DescribeCollectionRequest(collection_name=NAME), timeout=20)
    assert again.collectionID == answer.collectionID


def point_05_a_missing_collection_has_its_code_and_phrase():
    for call, request in [(STUB.DescribeCollection, milvus_pb2.DescribeCollectionRequest(collection_name="nothing")),
                          (STUB.GetCollectionStatistics, milvus_pb2.GetCollectionStatisticsRequest(collection_name="nothing")),
                          (STUB.ShowPartitions, milvus_pb2.ShowPartitionsRequest(collection_name="nothing"))]:
        status = call(request, timeout=20).status
        check_error(status, 100, common_pb2.CollectionNotExists)
        assert "can't find collection" in status.reason, status
    assert not STUB.HasCollection(milvus_pb2.HasCollectionRequest(collection_name="nothing"), timeout=20).value
    state = STUB.GetLoadState(milvus_pb2.GetLoadStateRequest(collection_name="nothing"), timeout=20)
    check_ok(state.status)
    assert state.state == common_pb2.LoadStateNotExist


def describe_index(**names):
    return STUB.DescribeIndex(milvus_pb2.DescribeIndexRequest(collection_name=NAME, **names), timeout=20)


def point_06_a_missing_index_has_its_code():
    check_error(describe_index(index_name="nothing").status, 700, common_pb2.IndexNotExist)
    check_error(describe_index(field_name="id").status, 700, common_pb2.IndexNotExist)


def point_07_the_index_has_the_name_of_its_field():
    for names in ({}, {"field_name": "vector"}, {"index_name": "vector"}):
        answer = describe_index(**names)
        check_ok(answer.status)
        (index,) = answer.index_descriptions
        assert (index.index_name, index.field_name, index.state) == ("vector", "vector", 3), index
        assert (index.total_rows, index.indexed_rows, index.pending_index_rows) == (ROWS, ROWS, 0), index
        parameters = {pair.key: pair.value for pair in index.params}
        assert parameters["metric_type"] == "L2" and json.loads(parameters["params"]) == {}, parameters


def create_index(field, **parameters):
    return STUB.CreateIndex(milvus_pb2.CreateIndexRequest(collection_name=NAME, field_name=field,
                                                          extra_params=pairs(**parameters)), timeout=20)


def point_08_index_types_are_hints():
    try:
        for kind in ("AUTOINDEX", "FLAT", "IVF_FLAT", "HNSW", "GPU_CAGRA", "GPU_BRUTE_FORCE"):
            check_ok(create_index("vector", index_type=kind, metric_type="L2", params={"nlist": 7}))
        parameters = {pair.key: pair.value for pair in describe_index(field_name="vector").index_descriptions[0].params}
        assert parameters["index_type"] == "GPU_BRUTE_FORCE" and json.loads(parameters["params"]) == {"nlist": 7}
        for kind in ("STL_SORT", "INVERTED", "BITMAP", "Trie", "AUTOINDEX"):
            check_ok(create_index("id", index_type=kind))
        check_error(create_index("vector", index_type="FLAT", metric_type="IP"), 1100)
        check_error(create_index("vector", index_type="MAGIC", metric_type="L2"), 1100)
        check_error(create_index("color", index_type="INVERTED"), 1700)
        assert rows_of_hits(search(QUERIES[:1]).results) == [exact_ids(QUERIES[0], 5)]
    finally:
        for name in ("vector", "id"):
            STUB.DropIndex(milvus_pb2.DropIndexRequest(collection_name=NAME, index_name=name), timeout=20)


def point_09_the_metric_may_be_missing_but_not_another():
    for options in ({}, {"metric_type": ""}, {"metric_type": "L2"}, {"params": {"metric_type": "L2"}}):
        check_ok(search(**options).status)
    check_error(search(metric_type="IP").status, 1100)
    check_error(search(params={"metric_type": "COSINE"}).status, 1100)


def point_10_the_number_of_queries_is_checked():
    answer = search(nq=0)
    check_ok(answer.status)
    assert len(answer.results.topks) == len(QUERIES) and answer.results.num_queries == len(QUERIES)
    check_error(search(nq=len(QUERIES) + 1).status, 1100)
    check_error(search(nq=0, group=placeholders([])).status, 1100)
    check_error(search(np.zeros((1, DIM + 1))).status, 1100)
    check_error(search([[float("nan")] * DIM]).status, 1100)


def point_11_empty_results_keep_their_columns():
    answer = query("id == 1000000000", ("*",))
    check_ok(answer.status)
    columns = {column.field_name: column for column in answer.fields_data}
    assert set(columns) == {"id", "vector"}
    assert columns["id"].WhichOneof("field") == "scalars" and columns["id"].scalars.WhichOneof("data") == "long_data"
    assert columns["vector"].vectors.dim == DIM and columns["vector"].vectors.WhichOneof("data") == "float_vector"
    answer = search(dsl="id == 1000000000", output_fields=["*"])
    check_ok(answer.status)
    assert list(answer.results.topks) == [0] * len(QUERIES)
    assert answer.results.ids.WhichOneof("id_field") == "int_id"
    assert {column.field_name for column in answer.results.fields_data} == {"id", "vector"}


def point_12_the_primary_key_is_a_column_where_it_is_asked_for():
    for fields in (["*"], ["id"], ["id", "vector"]):
        answer = search(QUERIES[:2], output_fields=fields)
        columns = {column.field_name: column for column in answer.results.fields_data}
        assert list(columns["id"].scalars.long_data.data) == list(answer.results.ids.int_id.data)
        assert answer.results.primary_field_name == "id"
        assert set(answer.results.output_fields) == set(columns)
    assert query("id < 3").primary_field_name == "id"
    check_error(search(output_fields=["color"]).status, 1700)


def point_13_columns_are_in_the_order_of_the_hits():
    answer = search(QUERIES, output_fields=["vector"], limit=7, dsl="id < 4")
    assert list(answer.results.topks) == [4] * len(QUERIES)
    (column,) = answer.results.fields_data
    rows = np.array(column.vectors.float_vector.data, np.float32).reshape(-1, DIM)
    ids = list(answer.results.ids.int_id.data)
    assert (rows == BASE[ids]).all()
    assert rows_of_hits(answer.results) == [exact_ids(row, 4, np.arange(4)) for row in QUERIES]


def mutations():
    vector = schema_pb2.FieldData(type=schema_pb2.FloatVector, field_name="vector", vectors=schema_pb2.VectorField(
        dim=DIM, float_vector=schema_pb2.FloatArray(data=[0.0] * DIM)))
    insert = {"collection_name": NAME, "fields_data": [vector], "num_rows": 1}
    yield STUB.Insert(milvus_pb2.InsertRequest(**insert), timeout=20)
    yield STUB.Upsert(milvus_pb2.UpsertRequest(**insert), timeout=20)
    yield STUB.Delete(milvus_pb2.DeleteRequest(collection_name=NAME, expr="id == 1"), timeout=20)


def point_14_mutations_are_refused_in_full_form():
    for result in mutations():
        check_error(result.status, 3000)
        assert "read-only" in result.status.reason
        assert result.IDs.WhichOneof("id_field") is None and result.insert_cnt == result.delete_cnt == result.upsert_cnt == 0
    assert int(STUB.GetCollectionStatistics(milvus_pb2.GetCollectionStatisticsRequest(collection_name=NAME),
                                            timeout=20).stats[0].value) == ROWS


def point_15_flush_answers_each_name():
    answer = STUB.Flush(milvus_pb2.FlushRequest(collection_names=[NAME]), timeout=20)
    check_ok(answer.status)
    assert NAME in answer.coll_segIDs and NAME in answer.flush_coll_segIDs and answer.coll_flush_ts[NAME] > 0
    assert STUB.GetFlushState(milvus_pb2.GetFlushStateRequest(), timeout=20).flushed


def point_16_the_row_count_is_text():
    answer = STUB.GetCollectionStatistics(milvus_pb2.GetCollectionStatisticsRequest(collection_name=NAME), timeout=20)
    assert {pair.key: pair.value for pair in answer.stats}["row_count"] == str(ROWS)


def point_17_loading_progress_is_complete():
    check_ok(STUB.LoadCollection(milvus_pb2.LoadCollectionRequest(collection_name=NAME, refresh=True), timeout=20))
    answer = STUB.GetLoadingProgress(milvus_pb2.GetLoadingProgressRequest(collection_name=NAME), timeout=20)
    assert (answer.progress, answer.refresh_progress) == (100, 100), answer
    state = STUB.GetLoadState(milvus_pb2.GetLoadStateRequest(collection_name=NAME), timeout=20)
    assert state.state == common_pb2.LoadStateLoaded
    replicas = STUB.GetReplicas(milvus_pb2.GetReplicasRequest(collection_name=NAME), timeout=20).replicas
    assert len(replicas) == 1 and len(replicas[0].node_ids) >= 1


def point_18_queries_come_in_key_order_with_a_timestamp():
    answer = query("id in [9, 3, 5] or id > 1990", limit=6, iterator="True", reduce_stop_for_best="True")
    assert list(answer.fields_data[0].scalars.long_data.data) == [3, 5, 9, 1991, 1992, 1993]
    assert answer.session_ts >> 18 > 1_600_000_000_000
    check_error(query("").status, 1100)


def point_19_scores_are_squared_and_ties_fall_to_the_smaller_id():
    answer = search(QUERIES, limit=20)
    assert rows_of_hits(answer.results) == [exact_ids(row, 20) for row in QUERIES]
    first = ((BASE[answer.results.ids.int_id.data[0]].astype(np.float64) - QUERIES[0].astype(np.float64)) ** 2).sum()
    assert abs(answer.results.scores[0] - first) <= 1e-6 * first
    radius, inner = float(answer.results.scores[10]), float(answer.results.scores[3])
    within = search(QUERIES[:1], limit=20, params={"radius": radius, "range_filter": inner})
    scores = list(answer.results.scores[:20])
    assert list(within.results.scores) == [score for score in scores if inner <= score < radius]
    flat = search(QUERIES[:1], limit=20, radius=radius, range_filter=inner)
    assert list(flat.results.scores) == list(within.results.scores)
    check_error(search(params={"radius": inner, "range_filter": radius}).status, 1100)
    assert len(search(QUERIES[:1], limit=ROWS + 5).results.scores) == ROWS


def point_20_inserts_with_validity_in_any_place_are_understood():
    data = schema_pb2.FieldData(type=schema_pb2.Int64, field_name="id", valid_data=[True], scalars=schema_pb2.ScalarField(
        long_data=schema_pb2.LongArray(data=[1])))
    result = STUB.Insert(milvus_pb2.InsertRequest(collection_name=NAME, fields_data=[data], num_rows=1), timeout=20)
    check_error(result.status, 3000)


def point_21_short_floats_are_widened_exactly():
    kinds = {
        common_pb2.PlaceholderType.Float16Vector: (np.round(QUERIES, 1).astype(np.float16), lambda rows: rows.astype(np.float32)),
        common_pb2.PlaceholderType.BFloat16Vector: (
            (QUERIES.view(np.uint32) >> 16).astype(np.uint16), lambda rows: (rows.astype(np.uint32) << 16).view(np.float32)),
        common_pb2.PlaceholderType.Int8Vector: (np.round(QUERIES * 3).astype(np.int8), lambda rows: rows.astype(np.float32)),
    }
    for kind, (rows, widened) in kinds.items():
        answer = search(group=placeholders([row.tobytes() for row in rows], kind))
        check_ok(answer.status)
        assert rows_of_hits(answer.results) == [exact_ids(row, 5) for row in widened(rows)], kind
    for kind in (common_pb2.PlaceholderType.BinaryVector, common_pb2.PlaceholderType.SparseFloatVector,
                 common_pb2.PlaceholderType.VarChar):
        check_error(search(group=placeholders([b"x" * DIM * 4] * len(QUERIES), kind)).status, 1100)


def point_22_unknown_keys_are_ignored_unless_they_change_the_result():
    wanted = rows_of_hits(search().results)
    for options in ({"nprobe": 3}, {"params": {"ef": 64, "page_retain_order": True}}, {"ignore_growing": "True"},
                    {"hints": "x"}, {"search_iter_v2": "True", "search_iter_batch_size": 5}):
        answer = search(**options)
        check_ok(answer.status)
        assert rows_of_hits(answer.results) == wanted
    check_error(search(group_by_field="color").status, 1100)
    request = search_request()
    request.function_score.functions.add().name = "rerank"
    check_error(STUB.Search(request, timeout=20).status, 1100)
    unknown = search_request().SerializeToString() + struct.pack("<HB", (1999 << 3 | 2) & 0x7f | 0x80 | (1999 << 3 | 2) >> 7 << 8, 0)
    raw = grpc.insecure_channel(ADDRESS).unary_unary("/milvus.proto.milvus.MilvusService/Search")(unknown, timeout=20)
    assert rows_of_hits(milvus_pb2.SearchResults.FromString(raw).results) == wanted


def point_23_version_and_identifier_are_usable():
    answer = STUB.Connect(milvus_pb2.ConnectRequest(client_info=common_pb2.ClientInfo(sdk_type="Python")), timeout=20)
    check_ok(answer.status)
    assert answer.identifier != 0 and re.match(r"v\d+\.\d+\.\d+", answer.server_info.build_tags)
    version = STUB.GetVersion(milvus_pb2.GetVersionRequest(), timeout=20).version
    assert version == answer.server_info.build_tags and "mpishards" in version
    assert STUB.CheckHealth(milvus_pb2.CheckHealthRequest(), timeout=20).isHealthy
    assert STUB.AllocTimestamp(milvus_pb2.AllocTimestampRequest(), timeout=20).timestamp >> 18 > 1_600_000_000_000


def main():
    results = {}
    for name, check in sorted(globals().items()):
        if not name.startswith("point_"):
            continue
        try:
            check()
            results[name] = "ok"
        except Exception:
            results[name] = traceback.format_exc()
    print(json.dumps(results))


main()
