"""Loads a server from several threads, or does one small thing with it; prints what came back.

Usage: load.py ADDRESS FACTS   where FACTS is JSON, see main().
"""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
from pymilvus import MilvusClient


def kind_of(error):
    text = str(error).lower()
    if "shutting down" in text:
        return "not ready"
    if any(word in text for word in ("connect", "unavailable", "channel", "socket", "closed", "cancelled")):
        return "connection"
    return text


def worker(address, facts, until, found, lock):
    client = MilvusClient(uri=f"http://{address}", timeout=5)
    query = np.zeros(facts["dim"], np.float32).tolist()
    while time.monotonic() < until:
        try:
            (hits,) = client.search(facts["collection"], [query], limit=5, timeout=5)
            right = len(hits) == 5 and all(a["distance"] <= b["distance"] for a, b in zip(hits, hits[1:]))
            with lock:
                found["answered"] += 1
                found["wrong"] += not right
        except Exception as error:
            with lock:
                kind = kind_of(error)
                found["errors"][kind] = found["errors"].get(kind, 0) + 1
            if "stop_pid" in facts:
                return


def load(address, facts):
    found, lock = {"answered": 0, "wrong": 0, "errors": {}}, threading.Lock()
    until = time.monotonic() + facts["seconds"]
    threads = [threading.Thread(target=worker, args=(address, facts, until, found, lock), daemon=True)
               for _ in range(facts["threads"])]
    for thread in threads:
        thread.start()
    if "stop_pid" in facts:
        time.sleep(facts["stop_after"])
        os.kill(facts["stop_pid"], signal.SIGUSR1)
    if "reload_pid" in facts:
        time.sleep(facts["seconds"] / 3)
        os.kill(facts["reload_pid"], signal.SIGUSR2)
    for thread in threads:
        thread.join(max(0.1, until + 10 - time.monotonic()))
    return found


def release_and_load(address, facts):
    client = MilvusClient(uri=f"http://{address}")
    name, query = facts["collection"], [[0.0] * facts["dim"]]
    client.release_collection(name)
    found = {"released": str(client.get_load_state(name)["state"]).split(".")[-1].split()[-1]}
    try:
        client.search(name, query, limit=3)
        found["error"] = "none"
    except Exception as error:
        found["error"] = str(error)
    client.load_collection(name)
    found["again"] = len(client.search(name, query, limit=3)[0])
    return found


def main():
    address, facts = sys.argv[1], json.loads(sys.argv[2])
    if "row" in facts:
        (row,) = MilvusClient(uri=f"http://{address}").get(facts["collection"], ids=[facts["row"]])
        found = {"row": [float(value) for value in row["vector"]]}
    elif "release" in facts:
        found = release_and_load(address, facts)
    else:
        found = load(address, facts)
    print(json.dumps(found), flush=True)
    os._exit(0)  # clients of a server that is gone may still be retrying


main()
