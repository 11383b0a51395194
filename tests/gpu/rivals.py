#!/usr/bin/env python3
"""What else finds the same neighbours on the same device, for the cases that cuda_flat has just measured.

    rivals.py CUDA_FLAT.jsonl

torch: matrix product and topk over tiles of the base, in float32 (without TF32: what exact search in float32 is) and in
float16. The tiles are as large as a gibibyte of scores allows, as FAISS' GpuIndexFlat cuts them. Neither is checked:
float32 sums are not exact, float16 ones far from it. Times are medians of 5 with queries and answers on the host, as
cuda_flat's are.
"""
import json
import statistics
import sys
import time

import torch

REPETITIONS = 5
TILE_BYTES = 1 << 30


def search(base, squares, host_queries, k, metric, dtype):
    queries = host_queries.to("cuda", non_blocking=True).to(dtype)
    best_scores, best_rows = None, None
    tile = max(k, TILE_BYTES // (4 * len(queries)))
    for first in range(0, len(base), tile):
        scores = queries @ base[first:first + tile].T
        if metric == "l2":
            scores = squares[first:first + tile] - 2 * scores
        values, rows = torch.topk(scores, min(k, scores.shape[1]), dim=1, largest=metric != "l2")
        rows += first
        if best_scores is not None:
            values = torch.cat([best_scores, values], dim=1)
            rows = torch.cat([best_rows, rows], dim=1)
            values, places = torch.topk(values, k, dim=1, largest=metric != "l2")
            rows = torch.gather(rows, 1, places)
        best_scores, best_rows = values, rows
    return best_rows.cpu(), best_scores.cpu()


def measure(case, dtype):
    generator = torch.Generator(device="cuda").manual_seed(1)
    base = torch.randn(case["nb"], case["d"], device="cuda", generator=generator).to(dtype)
    if case["metric"] == "cosine":
        base = torch.nn.functional.normalize(base)
    squares = (base.float() ** 2).sum(dim=1).to(dtype)
    queries = torch.randn(case["nq"], case["d"]).pin_memory()
    search(base, squares, queries, case["k"], case["metric"], dtype)
    times = []
    for _ in range(REPETITIONS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        search(base, squares, queries, case["k"], case["metric"], dtype)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main():
    torch.backends.cuda.matmul.allow_tf32 = False
    with open(sys.argv[1], encoding="utf-8") as lines:
        cases = [json.loads(line) for line in lines]
    print(f"torch {torch.__version__}")
    print(f"{'case':6} {'nq':>6} {'k':>4} {'metric':6} | {'ours q/s':>11} | {'fp32 q/s':>11} {'ratio':>6} | "
          f"{'fp16 q/s':>11} {'ratio':>6}")
    for case in cases:
        rates = []
        for dtype in (torch.float32, torch.float16):
            try:
                rates.append(case["nq"] / measure(case, dtype))
            except torch.cuda.OutOfMemoryError:
                rates.append(float("nan"))
            torch.cuda.empty_cache()
        ours = case["queries_per_second"]
        print(f"{case['case']:6} {case['nq']:6} {case['k']:4} {case['metric']:6} | {ours:11.0f} | "
              f"{rates[0]:11.0f} {ours / rates[0]:6.2f} | {rates[1]:11.0f} {ours / rates[1]:6.2f}", flush=True)


if __name__ == "__main__":
    main()
