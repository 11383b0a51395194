#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "io/partial_file.hpp"
#include "io/vector_writer.hpp"

namespace mpishards::io {

/// A VectorWriter of one file that is told where rows go, and counts them.
class CountedWriter : public VectorWriter {
 public:
  CountedWriter(PartialFile file, std::int64_t rows, bool with_ids)
      : file_(std::move(file)), rows_(rows), with_ids_(with_ids) {}

  void append(const std::byte* data, std::int64_t rows) final;
  void append_ids(std::span<const GlobalId> ids) final;
  void close() final;

 protected:
  const File& file() const { return file_.file(); }
  /// Rows [first, first + rows). @throws Error{io}
  virtual void write_rows(std::int64_t first, const std::byte* data, std::int64_t rows) = 0;
  /// Ids of the rows [first, first + ids.size()). @pre the file has a place for ids @throws Error{io}
  virtual void write_ids(std::int64_t first, std::span<const GlobalId> ids) = 0;

 private:
  PartialFile file_;
  std::int64_t rows_ = 0;
  bool with_ids_ = false;
  std::int64_t written_ = 0;
  std::int64_t ids_written_ = 0;
};

}  // namespace mpishards::io
