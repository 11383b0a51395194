#include "rank/unique_ids.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "comm/agree.hpp"
#include "core/error.hpp"
#include "core/mixed_bits.hpp"
#include "core/narrow.hpp"

namespace mpishards::rank {

namespace {

constexpr std::int64_t kIdsAtOnce = 1 << 15;
constexpr std::int64_t kIdBytes = sizeof(GlobalId);

/// Calls visit(row, id) for every row.
template <class Visit>
void for_each_id(const io::VectorSource& base, const Visit& visit) {
  std::vector<GlobalId> ids;
  for (std::int64_t begin = 0; begin < base.rows(); begin += kIdsAtOnce) {
    const std::int64_t end = std::min(base.rows(), begin + kIdsAtOnce);
    ids.resize(narrow<std::size_t>(end - begin));
    base.read_ids(begin, end, ids);
    for (std::int64_t row = begin; row < end; ++row) visit(row, ids[static_cast<std::size_t>(row - begin)]);
  }
}

[[noreturn]] void throw_repeated(const io::VectorSource& base, GlobalId repeated) {
  std::string rows;
  int named = 0;
  for_each_id(base, [&](std::int64_t row, GlobalId id) {
    if (id == repeated && named++ < 2) rows += (rows.empty() ? "" : " and ") + base.describe_row(row);
  });
  throw Error(ErrorKind::data, rows + " have the same id, " + std::to_string(repeated) +
                                   ", expected another one for every row; give the rows ids of their own");
}

/// Shares of all ids: as many for every rank, so that one of them fits, with the room that a vector grows by
/// and shares that are not quite equal.
std::int64_t count_shares(std::int64_t rows, std::int64_t memory_bytes, std::int64_t n_ranks) {
  const std::int64_t room = std::max(kIdsAtOnce, memory_bytes / (4 * kIdBytes));
  return n_ranks * std::max<std::int64_t>(1, (rows / n_ranks + room - 1) / room);
}

}  // namespace

void require_unique_ids(const io::VectorSource& base, std::int64_t memory_bytes,
                        const comm::Communicator& comm) {
  const std::int64_t shares = count_shares(base.rows(), memory_bytes, comm.size());
  for (std::int64_t share = comm.rank(); share < shares; share += comm.size())
    comm::agree(comm, [&] {
      std::vector<GlobalId> ids;
      for_each_id(base, [&](std::int64_t, GlobalId id) {
        if (mixed_bits(static_cast<std::uint64_t>(id)) % static_cast<std::uint64_t>(shares) ==
            static_cast<std::uint64_t>(share))
          ids.push_back(id);
      });
      std::ranges::sort(ids);
      const auto repeated = std::ranges::adjacent_find(ids);
      if (repeated != ids.end()) throw_repeated(base, *repeated);
    });
}

}  // namespace mpishards::rank
