#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/communicator.hpp"
#include "core/topk.hpp"
#include "rank/job_plan.hpp"
#include "rank/search_job.hpp"

namespace mpishards::rank {

/// A sweep over how many lists of an index a query looks into.
struct CurveTask {
  SearchJobConfig job;                // the base is that of job.index_directory, an index with lists
  std::vector<std::int64_t> nprobes;  // ascending, from 1 to the number of lists; at least one
  std::int64_t repeats = 3;           // timed searches of each, at least one
  bool needs_truth = true;            // all queries are first searched in all lists
};

/// One number of lists.
struct CurvePoint {
  std::int64_t nprobe = 0;
  double seconds = 0;     // median over the repeats: probing, scatter, search and merge of all queries
  double rows_share = 0;  // of the base that a query was compared with, mean over the queries
};

/// What ran.
struct CurveRun {
  JobShape shape;
  JobPlan plan;
  std::string engine;              // kernels::Index::description of rank 0
  std::string merge;               // strategy
  std::vector<std::string> hosts;  // on root: each once
  std::vector<std::string> warnings;
};

/// What a caller makes of a sweep; each may be empty. All are called on rank 0 alone.
struct CurveObserver {
  std::function<void(const CurveRun&)> loaded;  // once, before the first search
  // The answers of all lists, nq x k, if the task needs them; what the search took. Of an index that names
  // candidates they are those of all rows, and their ids places in list order: only distances tell its
  // recall.
  std::function<void(TopK, double seconds)> truth;
  std::function<void(const CurvePoint&, TopK)> point;  // its answers, nq x k
};

/// Numbers of lists to try where nobody names any: the powers of two below the number of lists, and that.
std::vector<std::int64_t> usual_nprobes(std::int64_t lists);
/// The same of rows that a search in a graph keeps in sight.
std::vector<std::int64_t> usual_ef_searches();

/// Middle value; the mean of both where their number is even. @pre there is at least one
double median(std::vector<double> values);

/// Loads the index and searches all queries as one batch, with every number of lists: once to warm up, then
/// repeats times. Collective over comm.
///
/// The answers, and so every recall, are the same for any number of ranks and threads; the seconds are not.
/// @throws Error, the same on every rank; Error{config} with the numbers where the index and the queries do
/// not stay in memory; Error{data} where a file of the index is damaged
/// @par Cost  (repeats + 1) searches a number of lists, and one in all lists if the task needs the truth
void run_recall_curve(const CurveTask& task, const comm::Communicator& comm, const CurveObserver& observer);

}  // namespace mpishards::rank
