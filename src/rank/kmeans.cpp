#include "rank/kmeans.hpp"

#include <faiss/Clustering.h>
#include <faiss/Index.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/cpu/float_environment.hpp"
#include "kernels/cpu/isa.hpp"
#include "rank/inverted_lists.hpp"
#include "rank/open_mp_threads.hpp"
#include "rank/stop.hpp"

namespace mpishards::rank {

namespace {

/// What root asks of the others.
enum class Round : std::int32_t { assign, end, failed };

/// Leaves FAISS' loop when a stop was asked for.
struct TrainingStopped {};

void assign_piece(kernels::Index& index, Metric metric, MatrixView<const float> rows,
                  std::span<const float> bound, std::int32_t* out) {
  TopK nearest(rows.rows, 1, metric);
  index.search(rows, bound, nearest);
  std::transform(nearest.neighbors(), nearest.neighbors() + rows.rows, out,
                 [](GlobalId list) { return static_cast<std::int32_t>(list); });
}

/// The same where the best is likely to be the one that out names already: most others are excluded sooner.
/// @param centroids  those of the index @param threads  beside those of the index
void reassign_to_centroids(kernels::Index& index, Metric metric, const kernels::cpu::Isa& isa,
                           MatrixView<const float> centroids, MatrixView<const float> rows, int threads,
                           std::int32_t* out) {
  const auto sum = metric == Metric::l2 ? isa.l2_squared : isa.dot_product;
  std::vector<float> bound;
  for (std::int64_t begin = 0; begin < rows.rows; begin += kAssignPiece) {
    const std::int64_t end = std::min(rows.rows, begin + kAssignPiece);
    bound.resize(static_cast<std::size_t>(end - begin));
#pragma omp parallel num_threads(threads)
    {
      const kernels::cpu::DefaultFloatEnvironment environment;
#pragma omp for
      for (std::int64_t row = begin; row < end; ++row)
        bound[static_cast<std::size_t>(row - begin)] =
            static_cast<float>(sum(rows.row(row), centroids.row(out[row]), rows.cols));
    }
    assign_piece(index, metric, rows.slice(begin, end), bound, out + begin);
  }
}

/// All ranks' part in an assignment of the rows to centroids.
class AssignmentRounds {
 public:
  AssignmentRounds(MatrixView<const float> mine, const std::vector<std::int64_t>& counts,
                   const KMeansConfig& config, const comm::Communicator& comm)
      : mine_(mine),
        counts_(counts),
        metric_(probing_metric(config.metric)),
        threads_(config.options.threads),
        isa_(kernels::cpu::find_isa(config.engine == "cpu" ? config.options.isa : "auto")),
        comm_(comm),
        centroids_(DType::f32, config.nlist, mine.cols),
        labels_(narrow<std::size_t>(mine.rows)),
        index_(kernels::make_index("flat", config.engine, metric_, config.options)) {}

  Matrix& centroids() { return centroids_; }

  /// One assignment; root's centroids are everybody's. Collective.
  /// @param[out] all  on root: the labels of all ranks' rows @throws TrainingStopped, on every rank
  void assign(std::span<std::int32_t> all) {
    comm_.broadcast_bytes(centroids_.data(), centroids_.bytes());
    if (agree_on_stop(comm_) > 0) throw TrainingStopped();
    comm::agree(comm_, [&] {
      index_->build(centroids_.view(), {});
      if (is_first_round_)
        assign_to_centroids(*index_, metric_, mine_, labels_.data());
      else
        reassign_to_centroids(*index_, metric_, isa_, std::as_const(centroids_).view().as<float>(), mine_,
                              threads_, labels_.data());
      is_first_round_ = false;
    });
    comm_.gather_records<std::int32_t>(labels_, counts_, all);
  }

  /// What the other ranks do until root has its centroids.
  void serve() {
    for (;;) {
      Round round = Round::end;
      comm_.broadcast_patiently(&round, sizeof round);
      if (round != Round::assign) return;
      assign({});
    }
  }

  /// On root: tells the others what comes next.
  void announce(Round round) { comm_.broadcast_patiently(&round, sizeof round); }

 private:
  MatrixView<const float> mine_;
  const std::vector<std::int64_t>& counts_;
  Metric metric_;
  int threads_;
  const kernels::cpu::Isa& isa_;
  const comm::Communicator& comm_;
  Matrix centroids_;
  std::vector<std::int32_t> labels_;
  std::unique_ptr<kernels::Index> index_;
  bool is_first_round_ = true;
};

/// The index that FAISS' k-means assigns with: it keeps the centroids, and searches on all ranks.
class AssignerIndex final : public faiss::Index {
 public:
  AssignerIndex(AssignmentRounds& rounds, const KMeansConfig& config, std::int64_t cols,
                const std::function<void()>& after_iteration)
      : faiss::Index(cols, config.metric == Metric::l2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT),
        rounds_(rounds),
        after_iteration_(after_iteration) {}

  void add(idx_t n, const float* x) override {
    std::copy_n(x, n * d, rounds_.centroids().as<float>().data);
    ntotal = n;
  }

  void reset() override {
    if (ntotal > 0 && after_iteration_) after_iteration_();
    ntotal = 0;
  }

  /// @pre x are all ranks' rows
  void search(idx_t n, const float*, idx_t, float* distances, idx_t* labels,
              const faiss::SearchParameters*) const override {
    rounds_.announce(Round::assign);
    found_.resize(narrow<std::size_t>(n));
    rounds_.assign(found_);
    std::ranges::copy(found_, labels);
    std::fill_n(distances, n, 0.0F);  // they only make FAISS' statistics
  }

 private:
  AssignmentRounds& rounds_;
  const std::function<void()>& after_iteration_;
  mutable std::vector<std::int32_t> found_;
};

/// FAISS' loop, on root. @param all  every rank's rows
void run_clustering(const Matrix& all, const KMeansConfig& config, AssignmentRounds& rounds,
                    const std::function<void()>& after_iteration) {
  const OpenMpThreads threads(config.options.threads);
  faiss::ClusteringParameters parameters;
  parameters.niter = narrow<int>(config.iterations);
  parameters.spherical = config.metric != Metric::l2;
  parameters.seed = KMeansConfig::kSeed;
  parameters.min_points_per_centroid = 1;  // the caller has warned
  parameters.max_points_per_centroid = std::numeric_limits<int>::max();
  faiss::Clustering clustering(narrow<int>(all.cols()), narrow<int>(config.nlist), parameters);
  AssignerIndex assigner(rounds, config, all.cols(), after_iteration);
  clustering.train(all.rows(), reinterpret_cast<const float*>(all.data()), assigner);
  std::ranges::copy(clustering.centroids, rounds.centroids().as<float>().data);
}

/// Root trains while the others assign for it. Collective; @throws TrainingStopped, on every rank
void train_together(const Matrix& all, const KMeansConfig& config, const comm::Communicator& comm,
                    AssignmentRounds& rounds, const std::function<void()>& after_iteration) {
  std::string failure;
  if (comm.is_root()) {
    try {
      run_clustering(all, config, rounds, after_iteration);
    } catch (const comm::AgreedError&) {
      throw;  // the others have it, too
    } catch (const std::exception& error) {
      failure = error.what();
    }
    rounds.announce(failure.empty() ? Round::end : Round::failed);
  } else {
    rounds.serve();
  }
  comm::agree(comm, [&] {
    if (!failure.empty()) throw Error(ErrorKind::internal, "FAISS' k-means failed: " + failure);
  });
  comm.broadcast_bytes(rounds.centroids().data(), rounds.centroids().bytes());
}

}  // namespace

void assign_to_centroids(kernels::Index& index, Metric metric, MatrixView<const float> rows,
                         std::int32_t* out) {
  for (std::int64_t begin = 0; begin < rows.rows; begin += kAssignPiece) {
    const std::int64_t end = std::min(rows.rows, begin + kAssignPiece);
    assign_piece(index, metric, rows.slice(begin, end), {}, out + begin);
  }
}

std::optional<Matrix> train_centroids(Matrix mine, const KMeansConfig& config, const comm::Communicator& comm,
                                      const std::function<void()>& after_iteration) {
  const std::vector<std::int64_t> counts = comm.all_gather(mine.rows());
  const std::int64_t rows = comm.sum(mine.rows());
  const std::int64_t d = mine.cols();
  Matrix all;
  comm::agree(comm, [&] {
    if (rows < config.nlist)
      throw Error(ErrorKind::config, "centroids of " + std::to_string(config.nlist) +
                                         " lists can't be trained on " + std::to_string(rows) +
                                         " rows; name fewer lists or more --training-rows");
    if (comm.is_root()) all = Matrix(DType::f32, rows, d);
  });
  comm.gather_rows(mine.data(), counts, mine.view().row_bytes(), all.data(), all.rows());
  MatrixView<const float> own = mine.view().as<float>();
  if (comm.is_root()) {  // they are the first of all
    own = all.view().as<float>().slice(0, mine.rows());
    mine = Matrix();
  }
  std::unique_ptr<AssignmentRounds> rounds;
  comm::agree(comm, [&] { rounds = std::make_unique<AssignmentRounds>(own, counts, config, comm); });
  try {
    train_together(all, config, comm, *rounds, after_iteration);
  } catch (const TrainingStopped&) {
    return std::nullopt;
  }
  return std::move(rounds->centroids());
}

}  // namespace mpishards::rank
