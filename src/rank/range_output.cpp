#include "rank/range_output.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>
#include <utility>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/topk.hpp"
#include "merge/merge_strategy.hpp"
#include "rank/job_output.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kIdBytes = sizeof(GlobalId);
constexpr std::int64_t kDistanceBytes = sizeof(float);
/// Rows whose lengths are held at once while blocks are joined.
constexpr std::int64_t kWindowRows = 1 << 16;

std::string hits_path(const std::string& out_path) {
  return out_path + ".hits";
}

void remove_hits(const std::string& out_path) {
  std::error_code ignored;  // without its journal a leftover speaks of nothing
  std::filesystem::remove(hits_path(out_path), ignored);
}

/// Where the pieces of a part lie: nq + 1 offsets, the ids, the distances.
struct PartPlaces {
  std::int64_t offsets = 0;
  std::int64_t ids = 0;
  std::int64_t distances = 0;
  std::int64_t end = 0;
};

PartPlaces places_of(const io::Journal::Part& part, std::int64_t nq) {
  PartPlaces places{.offsets = part.offset_bytes};
  places.ids = places.offsets + (nq + 1) * static_cast<std::int64_t>(sizeof(std::int64_t));
  places.distances = places.ids + part.hits * kIdBytes;
  places.end = places.distances + part.hits * kDistanceBytes;
  return places;
}

std::int64_t end_of(const io::Journal::Block& block) {
  std::int64_t end = 0;
  for (const io::Journal::Part& part : block.parts)
    end = std::max(end, places_of(part, block.queries.end - block.queries.begin).end);
  return end;
}

template <class T>
std::size_t bytes_of(const std::vector<T>& values) {
  return values.size() * sizeof(T);
}

/// Offsets of some queries of a part, the end of the last included.
std::vector<std::int64_t> read_offsets(const io::File& file, const io::Journal::Block& block,
                                       const io::Journal::Part& part, io::Range queries) {
  const PartPlaces places = places_of(part, block.queries.end - block.queries.begin);
  std::vector<std::int64_t> offsets(static_cast<std::size_t>(queries.end - queries.begin + 1));
  file.read_at(places.offsets +
                   (queries.begin - block.queries.begin) * static_cast<std::int64_t>(sizeof(std::int64_t)),
               offsets.data(), bytes_of(offsets));
  return offsets;
}

io::Range overlap(io::Range a, io::Range b) {
  return {std::max(a.begin, b.begin), std::min(a.end, b.end)};
}

/// Brings one row into order.
void sort_row(std::span<GlobalId> ids, std::span<float> distances, Closer closer,
              std::vector<std::pair<GlobalId, float>>& scratch) {
  scratch.resize(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) scratch[i] = {ids[i], distances[i]};
  std::ranges::sort(scratch, [closer](const auto& a, const auto& b) {
    return closer(a.first, a.second, b.first, b.second);
  });
  for (std::size_t i = 0; i < ids.size(); ++i) std::tie(ids[i], distances[i]) = scratch[i];
}

std::string encode(const std::vector<io::Journal::Block>& blocks, bool is_published, int resumes) {
  nlohmann::json list = nlohmann::json::array();
  for (const io::Journal::Block& block : blocks) {
    nlohmann::json parts = nlohmann::json::array();
    for (const io::Journal::Part& part : block.parts) parts.push_back({part.offset_bytes, part.hits});
    list.push_back(
        {block.rows.begin, block.rows.end, block.queries.begin, block.queries.end, std::move(parts)});
  }
  return nlohmann::json{{"blocks", std::move(list)}, {"published", is_published}, {"resumes", resumes}}
      .dump();
}

std::vector<io::Journal::Block> decode_blocks(const nlohmann::json& list) {
  std::vector<io::Journal::Block> blocks;
  for (const auto& json : list) {
    io::Journal::Block block{{json.at(0), json.at(1)}, {json.at(2), json.at(3)}, {}};
    for (const auto& part : json.at(4)) block.parts.push_back({part.at(0), part.at(1)});
    blocks.push_back(std::move(block));
  }
  return blocks;
}

}  // namespace

RangeOutput::RangeOutput(const SearchJobConfig& config, const JobInputs& inputs,
                         const comm::Communicator& comm)
    : comm_(comm), path_(config.output), nq_(inputs.query_rows.end - inputs.query_rows.begin) {
  comm::agree(comm_, [&] {
    if (comm_.is_root()) open_on_root(config, inputs);
  });
  share_state();
}

void RangeOutput::open_on_root(const SearchJobConfig& config, const JobInputs& inputs) {
  refuse_output(config);
  const io::Journal::Identity identity = identity_of(config, inputs);
  lock_ = io::OutputLock::acquire(path_);
  const bool has_partial = io::partial_exists(path_, io::ResultFormat::csr);
  const bool has_result = io::exists(path_);
  const bool may_be_published = has_result && !has_partial && io::Journal::exists(path_);
  const bool can_go_on = io::Journal::exists(path_) && (io::exists(hits_path(path_)) || may_be_published);
  if (!config.resume || !can_go_on) return start_anew(identity);
  journal_ = io::Journal::resume(path_, identity);
  // Hits are removed behind the result's renaming alone. While they are there, what has the name may be a
  // file that this job is to replace: it is made once more.
  const bool may_be_older = config.overwrite && io::exists(hits_path(path_));
  is_published_ = may_be_published && journal_->is_publishing() && !may_be_older;
  if (is_published_) return;
  if (has_result && !config.overwrite)
    throw Error(ErrorKind::cannot_create,
                path_ + " exists; name another output or allow its replacement with --overwrite");
  if (!io::exists(hits_path(path_))) start_anew(identity);
}

void RangeOutput::start_anew(const io::Journal::Identity& identity) {
  // The journal goes first and comes last: it never speaks of hits that are not there.
  journal_.reset();
  io::Journal::remove(path_);
  io::remove_partial(path_, io::ResultFormat::csr);
  io::File::open_write(hits_path(path_), true).close();
  journal_ = io::Journal::create(path_, identity);
}

void RangeOutput::share_state() {
  std::string text;
  if (comm_.is_root()) text = encode(journal_->blocks(), is_published_, journal_->resumes());
  comm_.broadcast_text(text);
  comm::agree(comm_, [&] {
    const nlohmann::json state = nlohmann::json::parse(text);
    blocks_ = decode_blocks(state.at("blocks"));
    is_published_ = state.at("published");
    resumes_ = state.at("resumes");
    for (const io::Journal::Block& block : blocks_) end_bytes_ = std::max(end_bytes_, end_of(block));
    if (!is_published_) hits_ = io::File::open_write(hits_path(path_), false);
  });
}

void RangeOutput::add_block(io::Range rows, io::Range queries, const RangeHits& hits) {
  io::Journal::Block block{rows, queries, {}};
  const std::int64_t nq = queries.end - queries.begin;
  for (const std::int64_t count : comm_.all_gather(hits.count())) {
    block.parts.push_back({end_bytes_, count});
    end_bytes_ = places_of(block.parts.back(), nq).end;
  }
  comm::agree(comm_, [&] {
    const PartPlaces places = places_of(block.parts[static_cast<std::size_t>(comm_.rank())], nq);
    hits_.write_at(places.offsets, hits.offsets.data(), bytes_of(hits.offsets));
    hits_.write_at(places.ids, hits.neighbors.data(), bytes_of(hits.neighbors));
    hits_.write_at(places.distances, hits.distances.data(), bytes_of(hits.distances));
    hits_.sync();
  });
  comm::agree(comm_, [&] {
    if (comm_.is_root()) journal_->record_block(block);
  });
  blocks_.push_back(std::move(block));
}

std::vector<std::int64_t> RangeOutput::count_hits(io::Range rows) const {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(rows.end - rows.begin));
  for (const io::Journal::Block& block : blocks_) {
    const io::Range common = overlap(block.queries, rows);
    if (common.begin >= common.end) continue;
    for (const io::Journal::Part& part : block.parts) {
      if (part.hits == 0) continue;
      const std::vector<std::int64_t> offsets = read_offsets(hits_, block, part, common);
      for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
        counts[i + static_cast<std::size_t>(common.begin - rows.begin)] += offsets[i + 1] - offsets[i];
    }
  }
  return counts;
}

/// Rows as they are written; offsets count from the first of them. @param counts  entries of each row
io::CsrRows RangeOutput::read_rows(io::Range rows, std::span<const std::int64_t> counts,
                                   Metric metric) const {
  io::CsrRows out;
  out.first_row = rows.begin;
  out.offsets.assign(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), out.offsets.begin() + 1);
  out.ids.resize(static_cast<std::size_t>(out.offsets.back()));
  out.distances.resize(out.ids.size());
  std::vector<std::int64_t> next(out.offsets.begin(), out.offsets.end() - 1);
  std::vector<GlobalId> ids;
  std::vector<float> distances;
  for (const io::Journal::Block& block : blocks_) {
    const io::Range common = overlap(block.queries, rows);
    if (common.begin >= common.end) continue;
    for (const io::Journal::Part& part : block.parts) {
      if (part.hits == 0) continue;
      const std::vector<std::int64_t> offsets = read_offsets(hits_, block, part, common);
      const PartPlaces places = places_of(part, block.queries.end - block.queries.begin);
      ids.resize(static_cast<std::size_t>(offsets.back() - offsets.front()));
      distances.resize(ids.size());
      hits_.read_at(places.ids + offsets.front() * kIdBytes, ids.data(), bytes_of(ids));
      hits_.read_at(places.distances + offsets.front() * kDistanceBytes, distances.data(),
                    bytes_of(distances));
      for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
        std::int64_t& at = next[i + static_cast<std::size_t>(common.begin - rows.begin)];
        const std::int64_t first = offsets[i] - offsets.front();
        const std::int64_t count = offsets[i + 1] - offsets[i];
        std::copy_n(ids.begin() + first, count, out.ids.begin() + at);
        std::copy_n(distances.begin() + first, count, out.distances.begin() + at);
        at += count;
      }
    }
  }
  const Closer closer(metric);
  std::vector<std::pair<GlobalId, float>> scratch;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const auto begin = static_cast<std::size_t>(out.offsets[i]);
    const auto count = static_cast<std::size_t>(counts[i]);
    sort_row(std::span(out.ids).subspan(begin, count), std::span(out.distances).subspan(begin, count), closer,
             scratch);
  }
  return out;
}

/// Calls visit(rows, counts) with consecutive rows of at most max_entries entries together.
template <class Visit>
void RangeOutput::for_each_run(io::Range rows, std::int64_t max_entries, Visit visit) const {
  for (std::int64_t window = rows.begin; window < rows.end; window += kWindowRows) {
    const io::Range range{window, std::min(rows.end, window + kWindowRows)};
    const std::vector<std::int64_t> counts = count_hits(range);
    std::size_t begin = 0;
    while (begin < counts.size()) {
      std::int64_t entries = counts[begin];
      if (entries > max_entries)
        throw Error(ErrorKind::config,
                    "query " + std::to_string(window + static_cast<std::int64_t>(begin)) + " has " +
                        std::to_string(entries) + " rows within eps, --memory allows " +
                        std::to_string(max_entries) + "; raise --memory or choose a stricter --eps");
      std::size_t end = begin + 1;
      while (end < counts.size() && entries + counts[end] <= max_entries) entries += counts[end++];
      visit(io::Range{window + static_cast<std::int64_t>(begin), window + static_cast<std::int64_t>(end)},
            std::span(counts).subspan(begin, end - begin));
      begin = end;
    }
  }
}

void RangeOutput::assemble(Metric metric, const io::CsrShape& shape, std::int64_t max_entries) {
  const merge::Slice slice = merge::slice_of(nq_, comm_.rank(), comm_.size());
  const io::Range mine{slice.begin, slice.end};
  std::int64_t count = 0;
  comm::agree(comm_, [&] {
    for_each_run(mine, max_entries, [&](io::Range, std::span<const std::int64_t> counts) {
      count += std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    });
  });
  const std::vector<std::int64_t> all = comm_.all_gather(count);
  std::int64_t at = std::accumulate(all.begin(), all.begin() + comm_.rank(), std::int64_t{0});
  const std::int64_t nnz = std::accumulate(all.begin(), all.end(), std::int64_t{0});
  std::string layout;
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    io::remove_partial(path_, io::ResultFormat::csr);
    io::CsrShape whole = shape;
    whole.rows = nq_;
    whole.nnz = nnz;
    layout = io::create_csr(path_, whole).serialize();
  });
  comm_.broadcast_text(layout);
  comm::agree(comm_, [&] {
    matrix_.emplace(io::CsrLayout::deserialize(layout));
    for_each_run(mine, max_entries, [&](io::Range rows, std::span<const std::int64_t> counts) {
      io::CsrRows found = read_rows(rows, counts, metric);
      matrix_->write_entries(at, found.ids, found.distances);
      for (std::int64_t& offset : found.offsets) offset += at;
      at = found.offsets.back();
      matrix_->write_offsets(rows.begin, std::span(found.offsets).first(counts.size()));
    });
    if (comm_.rank() + 1 == comm_.size()) matrix_->write_offsets(nq_, std::span(&nnz, 1));
    matrix_->sync();
  });
}

void RangeOutput::discard_if_empty() {
  if (!comm_.is_root() || !blocks_.empty() || is_published_) return;
  io::Journal::remove(path_);
  remove_hits(path_);
  io::remove_partial(path_, io::ResultFormat::csr);
}

void RangeOutput::publish(const io::Attributes& attributes) {
  comm::agree(comm_, [&] {
    if (!comm_.is_root()) return;
    if (!is_published_) {
      journal_->record_publishing();
      io::publish_result(path_, io::ResultFormat::csr, attributes);
    }
    remove_hits(path_);
    io::Journal::remove(path_);
    lock_.reset();
  });
}

}  // namespace mpishards::rank
