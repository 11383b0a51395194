#pragma once

#include <mpi.h>

#include <cstddef>
#include <utility>

#include "comm/check.hpp"
#include "core/narrow.hpp"

namespace mpishards::comm {

/// Owner of a committed MPI datatype.
class Datatype {
 public:
  /// `bytes` bytes as one element, so that counts are in elements and stay below 2^31.
  static Datatype bytes(std::size_t bytes) {
    MPI_Datatype type = MPI_DATATYPE_NULL;
    check_mpi(MPI_Type_contiguous(narrow<int>(bytes), MPI_BYTE, &type), "MPI_Type_contiguous");
    Datatype owner(type);
    check_mpi(MPI_Type_commit(&owner.type_), "MPI_Type_commit");
    return owner;
  }

  Datatype(Datatype&& other) noexcept : type_(std::exchange(other.type_, MPI_DATATYPE_NULL)) {}
  Datatype& operator=(Datatype&& other) noexcept {
    std::swap(type_, other.type_);
    return *this;
  }
  ~Datatype() {
    if (type_ != MPI_DATATYPE_NULL) MPI_Type_free(&type_);
  }

  MPI_Datatype get() const { return type_; }

 private:
  explicit Datatype(MPI_Datatype type) : type_(type) {}
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
};

}  // namespace mpishards::comm
