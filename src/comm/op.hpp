#pragma once

#include <mpi.h>

#include <utility>

#include "comm/check.hpp"

namespace mpishards::comm {

/// Owner of a user-defined MPI reduction.
class Op {
 public:
  static Op commutative(MPI_User_function* function) {
    MPI_Op op = MPI_OP_NULL;
    check_mpi(MPI_Op_create(function, 1, &op), "MPI_Op_create");
    return Op(op);
  }

  Op(Op&& other) noexcept : op_(std::exchange(other.op_, MPI_OP_NULL)) {}
  Op& operator=(Op&& other) noexcept {
    std::swap(op_, other.op_);
    return *this;
  }
  ~Op() {
    if (op_ != MPI_OP_NULL) MPI_Op_free(&op_);
  }

  MPI_Op get() const { return op_; }

 private:
  explicit Op(MPI_Op op) : op_(op) {}
  MPI_Op op_ = MPI_OP_NULL;
};

}  // namespace mpishards::comm
