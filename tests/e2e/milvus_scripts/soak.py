"""Mixed requests for a while, each answer checked; some are garbage or given up, as clients do that crash.

Usage: soak.py ADDRESS FACTS   where FACTS is JSON: collection, base (.npy), queries (.npy), seconds, rate
"""

import json
import random
import sys
import time

import grpc
import numpy as np
from pymilvus import MilvusClient

METHOD = "/milvus.proto.milvus.MilvusService/"
GARBAGE_SHARE = 0.02
GIVEN_UP_SHARE = 0.05


class Mixed:
    def __init__(self, address, facts):
        self.address, self.collection = address, facts["collection"]
        self.base, self.queries = np.load(facts["base"]), np.load(facts["queries"])
        self.client = MilvusClient(uri=f"http://{address}", timeout=60)
        self.channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self.squares = (self.base ** 2).sum(1)
        self.dice = random.Random(23)
        self.found = {"requests": 0, "garbage": 0, "given_up": 0, "wrong": []}

    def nearest(self, query, begin=0, end=None):
        """The first 100 of these rows: ids and squared distances, ties by id. All values are small integers: exact."""
        distances = self.squares[begin:end] - 2 * (self.base[begin:end] @ query) + query @ query
        order = np.argsort(distances, kind="stable")[:100]
        return list(zip((order + begin).tolist(), distances[order].tolist()))

    def check(self, what, found, wanted):
        self.found["requests"] += 1
        if found != wanted and len(self.found["wrong"]) < 5:
            self.found["wrong"].append(f"{what}: {found}, expected {wanted}")

    def search(self, query, wanted, **how):
        (hits,) = self.client.search(self.collection, [query.tolist()], **how)
        self.check(f"search {how}", [(hit["id"], hit["distance"]) for hit in hits], wanted)

    def filtered(self):
        begin = self.dice.randrange(len(self.base) - 10)
        end = begin + self.dice.choice([1, 7, 500, len(self.base)])
        query = self.dice.choice(self.queries)
        self.search(query, self.nearest(query, begin, end)[:9], filter=f"{begin} <= id < {end}", limit=9)

    def with_offset(self):
        query, offset = self.dice.choice(self.queries), self.dice.randrange(40)
        wanted = self.nearest(query)[offset:offset + 6]
        self.search(query, wanted, limit=6, search_params={"offset": offset})

    def within_radius(self):
        query = self.dice.choice(self.queries)
        ranked = self.nearest(query)
        radius = ranked[self.dice.randrange(1, 30)][1]
        wanted = [hit for hit in ranked if hit[1] < radius][:50]
        self.search(query, wanted, limit=50, search_params={"params": {"radius": radius}})

    def rows(self):
        ids = self.dice.sample(range(len(self.base)), self.dice.choice([1, 3, 40]))
        found = self.client.get(self.collection, ids, output_fields=["id", "vector"])
        self.check(f"get {ids}", sorted((row["id"], list(map(float, row["vector"]))) for row in found),
                   [(row, self.base[row].tolist()) for row in sorted(ids)])

    def count(self):
        (found,) = self.client.query(self.collection, filter="id >= 100", output_fields=["count(*)"])
        self.check("count", found["count(*)"], len(self.base) - 100)

    def garbage(self):
        """Bytes that are no request, and requests that make no sense: all are refused, none is answered with rows."""
        self.found["garbage"] += 1
        method = self.dice.choice(["Search", "Query", "DescribeCollection", "CreateIndex", "NoSuchCall"])
        body = self.dice.randbytes(self.dice.choice([1, 30, 3000]))
        call = self.channel.unary_unary(METHOD + method, lambda message: message, lambda message: message)
        try:
            answer = call(body, timeout=60)
        except grpc.RpcError:
            return
        if len(answer) > 4096:
            self.found["wrong"].append(f"{method} with garbage was answered with {len(answer)} bytes")

    def given_up(self):
        """A channel that is closed while it has work to do."""
        self.found["given_up"] += 1
        client = MilvusClient(uri=f"http://{self.address}", timeout=60, alias=f"given-up-{time.monotonic_ns()}")
        future = None
        try:
            future = client.search(self.collection, self.queries[:200].tolist(), limit=20, timeout=0.005)
        except Exception:
            pass
        client.close()
        del future

    def run(self, seconds, rate):
        until = time.monotonic() + seconds
        kinds = [self.filtered, self.with_offset, self.within_radius, self.rows, self.count]
        while time.monotonic() < until:
            begin = time.monotonic()
            chance = self.dice.random()
            if chance < GARBAGE_SHARE:
                self.garbage()
            elif chance < GARBAGE_SHARE + GIVEN_UP_SHARE:
                self.given_up()
            else:
                self.dice.choice(kinds)()
            time.sleep(max(0.0, begin + 1 / rate - time.monotonic()))
        self.channel.close()
        self.client.close()
        return self.found


facts = json.loads(sys.argv[2])
print(json.dumps(Mixed(sys.argv[1], facts).run(facts["seconds"], facts["rate"])))
