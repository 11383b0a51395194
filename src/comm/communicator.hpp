#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace mpishards::comm {

/// Move-only owner (`dup`, `split`) or borrower (`borrow`) of an MPI communicator. Errors are returned by MPI
/// and thrown here. Every member that communicates is collective over the communicator.
class Communicator {
 public:
  Communicator() = default;
  /// Does not free `comm`. @throws Error{mpi}
  static Communicator borrow(MPI_Comm comm);
  static Communicator world() { return borrow(MPI_COMM_WORLD); }
  static Communicator self() { return borrow(MPI_COMM_SELF); }
  /// Collective over `other`; the new communicator is freed by its owner, collectively.
  static Communicator dup(const Communicator& other);
  /// Collective over this: the ranks that share memory with this one.
  Communicator split_by_host() const;
  /// Collective over this the first time, then kept in this object: which host each rank is on, as
  /// numbered_by_appearance() numbers them.
  const std::vector<int>& host_of_each_rank() const;

  Communicator(Communicator&& other) noexcept { swap(other); }
  Communicator& operator=(Communicator&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Communicator();

  MPI_Comm get() const { return comm_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }

  void barrier() const;
  /// Root's bytes to all; any length (split into messages below 2^31 bytes).
  void broadcast_bytes(void* data, std::size_t bytes, int root = 0) const;
  /// The same for ranks that may wait long: they look for the message less and less often, down to once every
  /// 200 us, so that an idle job leaves its cores to others. @param bytes  below 2^31
  void broadcast_patiently(void* data, std::size_t bytes, int root = 0) const;
  /// Root's text to all, whatever its length.
  void broadcast_text(std::string& text, int root = 0) const;
  template <class T>
  void broadcast(T& value, int root = 0) const {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast_bytes(&value, sizeof(T), root);
  }

  std::int64_t sum(std::int64_t value) const;
  std::uint64_t sum_wrapping(std::uint64_t value) const;
  double sum(double value) const;
  /// Every value summed over the ranks, in place. @param values  as many on every rank, below 2^31
  void sum_each(std::span<std::int64_t> values) const;
  /// Every value summed over the ranks before this one; zeros on rank 0.
  std::vector<std::int64_t> sum_each_before(std::span<const std::int64_t> values) const;
  std::int64_t max(std::int64_t value) const;
  double max(double value) const;
  double min(double value) const;

  /// Every rank's value, by rank, on every rank.
  std::vector<std::int64_t> all_gather(std::int64_t value) const;
  std::vector<double> all_gather(double value) const;
  /// Every rank's text, by rank, on root; empty elsewhere.
  std::vector<std::string> gather_texts(std::string_view text, int root = 0) const;
  /// Concatenation by rank of every rank's records, on root. @param counts  records of each rank, the same on
  /// every rank @param[out] all  on root as many records as counts sum to; elsewhere ignored
  template <class T>
  void gather_records(std::span<const T> mine, std::span<const std::int64_t> counts, std::span<T> all,
                      int root = 0) const {
    static_assert(std::is_trivially_copyable_v<T>);
    gather_bytes(mine.data(), counts, sizeof(T), all.data(), all.size(), root);
  }
  /// The same for rows whose length is known at run time. @param all  on root n_rows rows of row_bytes
  void gather_rows(const void* mine, std::span<const std::int64_t> counts, std::size_t row_bytes, void* all,
                   std::int64_t n_rows, int root = 0) const {
    gather_bytes(mine, counts, row_bytes, all, static_cast<std::size_t>(n_rows), root);
  }
  /// Concatenation by rank of every rank's floats, on every rank. @param counts floats of each rank
  void all_gather_floats(std::span<const float> mine, std::span<const std::int64_t> counts,
                         std::span<float> all) const;

 private:
  void gather_bytes(const void* mine, std::span<const std::int64_t> counts, std::size_t record_bytes,
                    void* all, std::size_t n_records, int root) const;

  void swap(Communicator& other) noexcept {
    std::swap(comm_, other.comm_);
    std::swap(rank_, other.rank_);
    std::swap(size_, other.size_);
    std::swap(owned_, other.owned_);
    std::swap(host_of_each_rank_, other.host_of_each_rank_);
  }

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  int size_ = 1;
  bool owned_ = false;
  mutable std::vector<int> host_of_each_rank_;  // empty until it is asked for
};

/// Equal values get equal numbers, from 0 on in the order in which they first appear.
std::vector<int> numbered_by_appearance(std::span<const std::int64_t> values);

}  // namespace mpishards::comm
