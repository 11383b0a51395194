#include "rank/index_check.hpp"

#include <algorithm>
#include <vector>

#include "core/error.hpp"
#include "io/vector_source.hpp"
#include "rank/row_hash.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kBlockBytes = 64 << 20;

std::uint64_t expected_hash(const io::IndexShard& shard, bool of_codes) {
  return of_codes ? shard.codes_hash : shard.vectors_hash;
}

bool is_damaged(const io::VectorSource& source, const io::IndexShard& shard, bool of_codes) {
  std::uint64_t rows_hash = 0;
  std::uint64_t ids_hash = 0;
  const std::int64_t row_bytes = source.cols() * static_cast<std::int64_t>(size_bytes(source.dtype()));
  const std::int64_t step = std::max<std::int64_t>(1, kBlockBytes / std::max<std::int64_t>(1, row_bytes));
  for (std::int64_t begin = 0; begin < source.rows(); begin += step) {
    const std::int64_t end = std::min(source.rows(), begin + step);
    rows_hash += hash_rows(source.read_matrix(begin, end).view(), shard.first_row + begin);
    std::vector<GlobalId> ids(static_cast<std::size_t>(end - begin));
    source.read_ids(begin, end, ids);
    ids_hash += hash_ids(ids, shard.first_row + begin);
  }
  return rows_hash != expected_hash(shard, of_codes) || (!of_codes && ids_hash != shard.ids_hash);
}

}  // namespace

void require_undamaged(const std::string& directory, const io::IndexManifest& index, bool of_codes,
                       std::uint64_t rows_hash, std::optional<std::uint64_t> ids_hash) {
  std::uint64_t expected_rows = 0;
  std::uint64_t expected_ids = 0;
  for (const io::IndexShard& shard : index.shards) {
    expected_rows += expected_hash(shard, of_codes);
    expected_ids += shard.ids_hash;
  }
  if (rows_hash == expected_rows && ids_hash.value_or(expected_ids) == expected_ids) return;
  const std::vector<io::InputSpec> inputs =
      of_codes ? io::index_code_inputs(directory, index) : io::index_inputs(directory, index);
  for (std::size_t s = 0; s < inputs.size(); ++s)
    if (is_damaged(*io::open_source(inputs[s]), index.shards[s], of_codes))
      throw Error(ErrorKind::data, inputs[s].path +
                                       " is damaged: its rows are not those that were written (checksum); "
                                       "restore the file, or build the index again");
  throw Error(ErrorKind::io, directory + ": rows that were read were not those on disk; run it again");
}

}  // namespace mpishards::rank
