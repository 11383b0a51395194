#include "rank/index_check.hpp"

#include <algorithm>
#include <vector>

#include "core/error.hpp"
#include "io/vector_source.hpp"
#include "rank/row_hash.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kBlockBytes = 64 << 20;

bool is_damaged(const io::VectorSource& source, const io::IndexShard& shard) {
  std::uint64_t vectors_hash = 0;
  std::uint64_t ids_hash = 0;
  const std::int64_t row_bytes = source.cols() * static_cast<std::int64_t>(size_bytes(source.dtype()));
  const std::int64_t step = std::max<std::int64_t>(1, kBlockBytes / std::max<std::int64_t>(1, row_bytes));
  for (std::int64_t begin = 0; begin < source.rows(); begin += step) {
    const std::int64_t end = std::min(source.rows(), begin + step);
    vectors_hash += hash_rows(source.read_matrix(begin, end).view(), shard.first_row + begin);
    std::vector<GlobalId> ids(static_cast<std::size_t>(end - begin));
    source.read_ids(begin, end, ids);
    ids_hash += hash_ids(ids, shard.first_row + begin);
  }
  return vectors_hash != shard.vectors_hash || ids_hash != shard.ids_hash;
}

}  // namespace

void require_undamaged(const std::string& directory, const io::IndexManifest& index,
                       std::uint64_t vectors_hash, std::optional<std::uint64_t> ids_hash) {
  std::uint64_t expected_vectors = 0;
  std::uint64_t expected_ids = 0;
  for (const io::IndexShard& shard : index.shards) {
    expected_vectors += shard.vectors_hash;
    expected_ids += shard.ids_hash;
  }
  if (vectors_hash == expected_vectors && ids_hash.value_or(expected_ids) == expected_ids) return;
  const std::vector<io::InputSpec> inputs = io::index_inputs(directory, index);
  for (std::size_t s = 0; s < inputs.size(); ++s)
    if (is_damaged(*io::open_source(inputs[s]), index.shards[s]))
      throw Error(ErrorKind::data, inputs[s].path +
                                       " is damaged: its rows are not those that were written (checksum); "
                                       "restore the file, or build the index again");
  throw Error(ErrorKind::io, directory + ": rows that were read were not those on disk; run it again");
}

}  // namespace mpishards::rank
