#include "comm/communicator.hpp"

#include <algorithm>
#include <chrono>
#include <map>
#include <thread>

#include "comm/check.hpp"
#include "comm/datatype.hpp"
#include "core/narrow.hpp"

namespace mpishards::comm {

namespace {

constexpr std::size_t kMaxMessageBytes = std::size_t{1} << 30;

template <class T>
T all_reduce(MPI_Comm comm, T value, MPI_Datatype type, MPI_Op op) {
  T result{};
  check_mpi(MPI_Allreduce(&value, &result, 1, type, op, comm), "MPI_Allreduce");
  return result;
}

/// What each rank has, as MPI's v-collectives want it: places one behind the other.
struct Parts {
  explicit Parts(std::span<const std::int64_t> lengths) {
    for (const std::int64_t length : lengths) {
      counts.push_back(narrow<int>(length));
      offsets.push_back(narrow<int>(total));
      total += length;
    }
  }

  std::vector<int> counts;
  std::vector<int> offsets;
  std::int64_t total = 0;
};

}  // namespace

Communicator Communicator::borrow(MPI_Comm comm) {
  Communicator result;
  result.comm_ = comm;
  check_mpi(MPI_Comm_rank(comm, &result.rank_), "MPI_Comm_rank");
  check_mpi(MPI_Comm_size(comm, &result.size_), "MPI_Comm_size");
  return result;
}

Communicator Communicator::dup(const Communicator& other) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(other.get(), &comm), "MPI_Comm_dup");
  Communicator result = borrow(comm);
  result.owned_ = true;
  check_mpi(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  return result;
}

Communicator Communicator::split_by_host() const {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm_, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &comm),
            "MPI_Comm_split_type");
  Communicator result = borrow(comm);
  result.owned_ = true;
  return result;
}

const std::vector<int>& Communicator::host_of_each_rank() const {
  if (!host_of_each_rank_.empty()) return host_of_each_rank_;
  std::int64_t first_of_host = rank_;
  split_by_host().broadcast(first_of_host);
  host_of_each_rank_ = numbered_by_appearance(all_gather(first_of_host));
  return host_of_each_rank_;
}

std::vector<int> numbered_by_appearance(std::span<const std::int64_t> values) {
  std::map<std::int64_t, int> numbers;
  std::vector<int> numbered;
  for (const std::int64_t value : values)
    numbered.push_back(numbers.try_emplace(value, narrow<int>(numbers.size())).first->second);
  return numbered;
}

Communicator::~Communicator() {
  if (owned_ && comm_ != MPI_COMM_NULL) MPI_Comm_free(&comm_);
}

void Communicator::barrier() const {
  check_mpi(MPI_Barrier(comm_), "MPI_Barrier");
}

void Communicator::broadcast_bytes(void* data, std::size_t bytes, int root) const {
  auto* at = static_cast<char*>(data);
  while (bytes > 0) {
    const std::size_t part = std::min(bytes, kMaxMessageBytes);
    check_mpi(MPI_Bcast(at, narrow<int>(part), MPI_BYTE, root, comm_), "MPI_Bcast");
    at += part;
    bytes -= part;
  }
}

void Communicator::broadcast_patiently(void* data, std::size_t bytes, int root) const {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::milliseconds kEager{2};  // a next message usually follows within this
  constexpr std::chrono::microseconds kLongestNap{200};
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibcast(data, narrow<int>(bytes), MPI_BYTE, root, comm_, &request), "MPI_Ibcast");
  const Clock::time_point begin = Clock::now();
  std::chrono::microseconds nap{10};
  for (;;) {
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done != 0) return;
    if (rank_ == root || Clock::now() - begin < kEager) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(nap);
    nap = std::min(nap * 2, kLongestNap);
  }
}

void Communicator::broadcast_text(std::string& text, int root) const {
  auto length = static_cast<std::uint64_t>(text.size());
  broadcast(length, root);
  text.resize(length);
  broadcast_bytes(text.data(), text.size(), root);
}

std::int64_t Communicator::sum(std::int64_t value) const {
  return all_reduce(comm_, value, MPI_INT64_T, MPI_SUM);
}
std::uint64_t Communicator::sum_wrapping(std::uint64_t value) const {
  return all_reduce(comm_, value, MPI_UINT64_T, MPI_SUM);
}
double Communicator::sum(double value) const {
  return all_reduce(comm_, value, MPI_DOUBLE, MPI_SUM);
}
void Communicator::sum_each(std::span<std::int64_t> values) const {
  check_mpi(
      MPI_Allreduce(MPI_IN_PLACE, values.data(), narrow<int>(values.size()), MPI_INT64_T, MPI_SUM, comm_),
      "MPI_Allreduce");
}

std::vector<std::int64_t> Communicator::sum_each_before(std::span<const std::int64_t> values) const {
  std::vector<std::int64_t> before(values.size());
  check_mpi(MPI_Exscan(values.data(), before.data(), narrow<int>(values.size()), MPI_INT64_T, MPI_SUM, comm_),
            "MPI_Exscan");
  if (rank_ == 0) std::ranges::fill(before, 0);  // which MPI leaves undefined
  return before;
}

std::int64_t Communicator::max(std::int64_t value) const {
  return all_reduce(comm_, value, MPI_INT64_T, MPI_MAX);
}
double Communicator::max(double value) const {
  return all_reduce(comm_, value, MPI_DOUBLE, MPI_MAX);
}
double Communicator::min(double value) const {
  return all_reduce(comm_, value, MPI_DOUBLE, MPI_MIN);
}

std::vector<std::int64_t> Communicator::all_gather(std::int64_t value) const {
  std::vector<std::int64_t> all(static_cast<std::size_t>(size_));
  check_mpi(MPI_Allgather(&value, 1, MPI_INT64_T, all.data(), 1, MPI_INT64_T, comm_), "MPI_Allgather");
  return all;
}

std::vector<double> Communicator::all_gather(double value) const {
  std::vector<double> all(static_cast<std::size_t>(size_));
  check_mpi(MPI_Allgather(&value, 1, MPI_DOUBLE, all.data(), 1, MPI_DOUBLE, comm_), "MPI_Allgather");
  return all;
}

std::vector<std::string> Communicator::gather_texts(std::string_view text, int root) const {
  const Parts parts(all_gather(static_cast<std::int64_t>(text.size())));
  std::string joined(rank_ == root ? static_cast<std::size_t>(parts.total) : 0, '\0');
  check_mpi(MPI_Gatherv(text.data(), narrow<int>(text.size()), MPI_CHAR, joined.data(), parts.counts.data(),
                        parts.offsets.data(), MPI_CHAR, root, comm_),
            "MPI_Gatherv");
  std::vector<std::string> texts;
  if (rank_ != root) return texts;
  for (std::size_t r = 0; r < parts.counts.size(); ++r)
    texts.push_back(
        joined.substr(static_cast<std::size_t>(parts.offsets[r]), static_cast<std::size_t>(parts.counts[r])));
  return texts;
}

void Communicator::gather_bytes(const void* mine, std::span<const std::int64_t> counts,
                                std::size_t record_bytes, void* all, std::size_t n_records, int root) const {
  const Parts parts(counts);
  if (rank_ == root && static_cast<std::size_t>(parts.total) != n_records)
    throw Error(ErrorKind::internal, "gather_records: the counts do not sum to the receiving span");
  const Datatype record = Datatype::bytes(record_bytes);
  check_mpi(MPI_Gatherv(mine, parts.counts[static_cast<std::size_t>(rank_)], record.get(), all,
                        parts.counts.data(), parts.offsets.data(), record.get(), root, comm_),
            "MPI_Gatherv");
}

void Communicator::all_gather_floats(std::span<const float> mine, std::span<const std::int64_t> counts,
                                     std::span<float> all) const {
  const Parts parts(counts);
  if (static_cast<std::size_t>(parts.total) != all.size())
    throw Error(ErrorKind::internal, "all_gather_floats: the counts do not sum to the receiving span");
  check_mpi(MPI_Allgatherv(mine.data(), narrow<int>(mine.size()), MPI_FLOAT, all.data(), parts.counts.data(),
                           parts.offsets.data(), MPI_FLOAT, comm_),
            "MPI_Allgatherv");
}

}  // namespace mpishards::comm
