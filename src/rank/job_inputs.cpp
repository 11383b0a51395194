#include "rank/job_inputs.hpp"

#include <sched.h>

#include <algorithm>
#include <iterator>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/narrow.hpp"
#include "kernels/index.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/host_info.hpp"
#include "rank/index_spec.hpp"
#include "rank/query_reader.hpp"
#include "rank/shard_map.hpp"

namespace mpishards::rank {

namespace {

/// Share of the available memory that is planned with: the rest is for MPI, HDF5 and the page cache.
constexpr double kMemoryShare = 0.8;
/// Rows that are read at once when the queries are checked.
constexpr std::int64_t kCheckBlockBytes = 64 << 20;

void refuse_id_types(const io::VectorSource& source) {
  if (source.dtype() == DType::i32 || source.dtype() == DType::i64)
    throw Error(ErrorKind::data,
                source.name() + " holds " + std::string(to_string(source.dtype())) +
                    ", which is no vector type; convert it first: mpishards convert IN OUT --dtype f32");
}

void check_shapes(const io::VectorSource& base, const io::VectorSource& queries) {
  refuse_id_types(base);
  refuse_id_types(queries);
  if (const std::string problem = base.ids_problem(); !problem.empty()) throw Error(ErrorKind::data, problem);
  if (base.rows() == 0)
    throw Error(ErrorKind::data, base.name() + " is empty: there is nothing to search in");
  if (queries.rows() == 0) throw Error(ErrorKind::data, queries.name() + " is empty: there are no queries");
  if (base.cols() != queries.cols())
    throw Error(ErrorKind::data, "queries.d = " + std::to_string(queries.cols()) + " (" + queries.name() +
                                     "), base.d = " + std::to_string(base.cols()) + " (" + base.name() +
                                     "): both must have the same dimension");
}

io::IndexManifest open_index(const SearchJobConfig& config) {
  io::IndexManifest index = io::read_index(config.index_directory);
  if (index.metric != config.metric)
    throw Error(ErrorKind::data, config.index_directory + " is an index for --metric " +
                                     std::string(to_string(index.metric)) + ", not for " +
                                     std::string(to_string(config.metric)) +
                                     "; leave --metric out, or build another index");
  if (config.index != "flat" && config.index != index.type)
    throw Error(ErrorKind::data, config.index_directory + " is an index of type " + index.type + ", not " +
                                     config.index + "; leave --index out");
  return index;
}

FaissShape faiss_shape(const io::IndexManifest& index) {
  FaissShape shape{
      .factory = index.faiss.factory, .parameter = index.faiss.parameter, .shards = std::ssize(index.shards)};
  for (const io::IndexShard& shard : index.shards) {
    shape.shard_rows = std::max(shape.shard_rows, shard.rows);
    shape.shard_bytes = std::max(shape.shard_bytes, shard.faiss_bytes + index.faiss.table_bytes);
  }
  return shape;
}

/// A rank has whole shards.
void check_faiss_use(const SearchJobConfig& config) {
  if (config.parts > 1)
    throw Error(ErrorKind::usage, "--part cuts the base by rows, but " + config.index_directory +
                                      " is searched in whole shards; leave --part out, or search its rows "
                                      "with --index flat");
}

std::vector<std::string> idle_ranks(std::int64_t shards, int n_ranks) {
  if (n_ranks <= shards) return {};
  return {std::to_string(n_ranks) + " ranks share " + std::to_string(shards) +
          " shards of FAISS: some have nothing to search; build the index with more --shards"};
}

io::Range query_rows_of(const SearchJobConfig& config, const io::VectorSource& queries) {
  if (!config.queries_range) return {0, queries.rows()};
  const io::Range range = *config.queries_range;
  if (range.begin < 0 || range.begin >= range.end || range.end > queries.rows())
    throw Error(ErrorKind::usage, "--queries-range " + std::to_string(range.begin) + ":" +
                                      std::to_string(range.end) + " lies outside the " +
                                      std::to_string(queries.rows()) + " rows of " + queries.name());
  return range;
}

io::Range base_rows_of(const SearchJobConfig& config, const io::VectorSource& base) {
  return ShardMap({0, base.rows()}, config.parts).shard(config.part);
}

/// A file that is named twice is searched twice: each neighbour comes twice, under two ids.
std::vector<std::string> repeated_inputs(const std::vector<io::InputSpec>& specs) {
  std::vector<std::string> names;
  for (const io::InputSpec& spec : specs) names.push_back(io::to_string(spec));
  std::ranges::sort(names);
  std::vector<std::string> repeated;
  for (std::size_t i = 1; i < names.size(); ++i)
    if (names[i] == names[i - 1] && (repeated.empty() || repeated.back() != names[i]))
      repeated.push_back(names[i]);
  return repeated;
}

std::vector<std::string> input_warnings(const SearchJobConfig& config, const JobInputs& inputs, int n_ranks) {
  std::vector<std::string> warnings;
  for (const io::VectorSource* source : {inputs.base.get(), inputs.queries.get()})
    if (source->dtype() == DType::f64)
      warnings.push_back(source->name() + " holds float64; its values are narrowed to float32");
  for (const std::string& name : repeated_inputs(config.base))
    warnings.push_back(
        name + " is named more than once in --base: its rows are searched each time, under other ids");
  const std::int64_t rows = inputs.base_rows.end - inputs.base_rows.begin;
  if (!config.range && config.k > rows)
    warnings.push_back("k = " + std::to_string(config.k) + " is more than the " + std::to_string(rows) +
                       " rows searched: answers are padded with id -1");
  if (n_ranks > rows)
    warnings.push_back(std::to_string(n_ranks) + " ranks share " + std::to_string(rows) +
                       " rows: some have nothing to do");
  return warnings;
}

/// How many ranks of this host, this one included, run on exactly the cores that this one is bound to.
int ranks_on_same_cores(const comm::Communicator& host) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  sched_getaffinity(0, sizeof cores, &cores);
  std::int64_t own = 0;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &cores))
      own = static_cast<std::int64_t>(static_cast<std::uint64_t>(own) * 31U +
                                      static_cast<std::uint64_t>(core) + 1U);
  const std::vector<std::int64_t> all = host.all_gather(own);
  return static_cast<int>(std::ranges::count(all, own));
}

}  // namespace

JobInputs open_inputs(const SearchJobConfig& config, const comm::Communicator& comm) {
  comm::agree(comm, [&] {
    if (!comm.is_root()) return;
    for (const io::InputSpec& spec : config.base) io::probe_in_child(spec);
    for (const io::InputSpec& spec : config.queries) io::probe_in_child(spec);
  });
  JobInputs inputs;
  comm::agree(comm, [&] {
    if (config.k < 1)
      throw Error(ErrorKind::usage, "k = " + std::to_string(config.k) + ", but it must be at least 1");
    if (!config.index_directory.empty()) inputs.index = open_index(config);
    inputs.base = io::open_sources(config.base);
    inputs.queries = io::open_sources(config.queries);
    check_shapes(*inputs.base, *inputs.queries);
    inputs.base_rows = base_rows_of(config, *inputs.base);
    inputs.query_rows = query_rows_of(config, *inputs.queries);
    if (inputs.base_rows.begin == inputs.base_rows.end)
      throw Error(ErrorKind::usage, "part " + std::to_string(config.part) + " of " +
                                        std::to_string(config.parts) + " has no rows: the base has only " +
                                        std::to_string(inputs.base->rows()));
    if (config.exclude_self && !config.range && config.k >= inputs.base->rows())
      throw Error(ErrorKind::usage,
                  "k = " + std::to_string(config.k) + ", but each of the " +
                      std::to_string(inputs.base->rows()) + " rows of " + inputs.base->name() + " has only " +
                      std::to_string(inputs.base->rows() - 1) + " others; name a smaller -k");
    inputs.warnings = input_warnings(config, inputs, comm.size());
    inputs.has_faiss = inputs.index && config.index == kFaissIndex;
    if (!inputs.has_faiss) return;
    check_faiss_use(config);
    std::ranges::copy(idle_ranks(std::ssize(inputs.index->shards), comm.size()),
                      std::back_inserter(inputs.warnings));
  });
  if (inputs.index && config.index != "flat" && !inputs.has_faiss)
    inputs.lists = load_lists(config.index_directory, *inputs.index, comm, config.isa);
  if (inputs.lists && inputs.lists->codec) {
    const std::vector<io::InputSpec> codes = io::index_code_inputs(config.index_directory, *inputs.index);
    comm::agree(comm, [&] {
      if (!comm.is_root()) return;
      for (const io::InputSpec& spec : codes) io::probe_in_child(spec);
    });
    comm::agree(comm, [&] {
      inputs.codes = io::open_sources(codes);
      if (inputs.codes->rows() != inputs.base->rows() ||
          inputs.codes->cols() != inputs.index->codes.code_bytes || inputs.codes->dtype() != DType::u8)
        throw Error(ErrorKind::data, inputs.codes->name() + " holds " + std::to_string(inputs.codes->rows()) +
                                         " x " + std::to_string(inputs.codes->cols()) +
                                         " codes, which are not those of the index; build it again");
    });
  }
  inputs.device = device_of_rank(comm.split_by_host(), config.engine);
  return inputs;
}

std::uint64_t check_queries(const JobInputs& inputs, int threads, const comm::Communicator& comm) {
  std::uint64_t hash = 0;
  comm::agree(comm, [&] {
    QueryReader reader(*inputs.queries, threads);
    const io::Range all = inputs.query_rows;
    const merge::Slice mine = merge::slice_of(all.end - all.begin, comm.rank(), comm.size());
    const std::int64_t block = std::max<std::int64_t>(1, kCheckBlockBytes / (inputs.queries->cols() * 4));
    for (std::int64_t begin = mine.begin; begin < mine.end; begin += block)
      hash += reader.take({all.begin + begin, all.begin + std::min(mine.end, begin + block)}).content_hash;
  });
  return comm.sum_wrapping(hash);
}

int default_threads(const comm::Communicator& host) {
  return std::max(1, bound_cores() / ranks_on_same_cores(host));
}

kernels::DevicePlace device_of_rank(const comm::Communicator& host, const std::string& engine) {
  if (engine != "cuda") return {};
  std::string why_none;
  return kernels::device_place(host.rank(), host.size(),
                               static_cast<int>(kernels::list_gpus(why_none).size()));
}

JobShape shape_of(const SearchJobConfig& config, const JobInputs& inputs, const comm::Communicator& comm,
                  std::vector<std::string>& warnings) {
  const comm::Communicator host = comm.split_by_host();
  const int local_ranks = host.size();

  JobShape shape;
  shape.rows = inputs.base_rows.end - inputs.base_rows.begin;
  shape.d = inputs.base->cols();
  shape.dtype = inputs.base->dtype();
  shape.nq = inputs.query_rows.end - inputs.query_rows.begin;
  shape.k = config.range ? 0 : config.k;
  if (config.range) {
    shape.eps = config.range->eps;
    shape.has_clusters = config.range->has_clusters;
  }
  shape.n_ranks = comm.size();
  shape.batch = config.batch;
  shape.has_ids = inputs.base->has_ids() && !config.exclude_self;
  shape.exclude_self = config.exclude_self;
  shape.symmetrized = config.symmetry != Symmetry::directed;
  if (inputs.lists) {
    shape.lists = inputs.lists->count();
    shape.nprobe = std::min(config.nprobe, shape.lists);
  }
  if (inputs.codes) {
    shape.codec = parse_codec(inputs.index->codes.codec);
    shape.rerank = config.rerank;
    shape.has_ids = false;  // they are read with the candidates
  }
  if (inputs.has_faiss) {
    shape.faiss = faiss_shape(*inputs.index);
    shape.rerank = config.rerank;
    shape.has_ids = false;
  }
  const int own_threads = config.threads > 0 ? config.threads : default_threads(host);
  shape.own_threads = own_threads;
  shape.threads = narrow<int>(comm.max(std::int64_t{own_threads}));
  int isa_place = 0;
  // Rows on a device are not packed.
  const bool is_on_device = config.engine == "cuda";
  comm::agree(comm, [&] { isa_place = kernels::isa_place(is_on_device ? "portable" : config.isa); });
  const RankKind kind{.engine = is_on_device ? "cuda" : "cpu",
                      .options = {.threads = own_threads,
                                  .isa = kernels::isa_at(isa_place),
                                  .device = inputs.device.device,
                                  .device_ranks = inputs.device.ranks}};
  shape.isa = kernels::isa_at(static_cast<int>(comm.min(isa_place)));
  shape.memory_bytes = config.memory_bytes > 0
                           ? config.memory_bytes
                           : static_cast<std::int64_t>(comm.min(
                                 kMemoryShare * static_cast<double>(available_memory_bytes()) / local_ranks));
  for (const std::string& warning : launcher_warnings(comm.size(), own_threads, local_ranks))
    warnings.push_back(warning);
  const std::string facts = std::to_string(shape.rows) + " x " + std::to_string(shape.d) + ", " +
                            std::to_string(shape.nq) + " queries, " + config.configuration;
  std::string roots = facts;
  comm.broadcast_text(roots);
  comm::agree(comm, [&] {
    if (roots != facts)
      throw Error(ErrorKind::config,
                  "this rank sees other inputs or settings than rank 0; is the file system the same "
                  "on every host?");
  });
  shape.weights =
      shard_weights(config.balance, kind, config.metric, shape.d, shape.dtype, shape.memory_bytes, comm);
  return shape;
}

}  // namespace mpishards::rank
