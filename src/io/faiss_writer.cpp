#include "io/faiss_writer.hpp"

#include <utility>

#include "io/counted_writer.hpp"
#include "io/disk_space.hpp"
#include "io/faiss_layout.hpp"

namespace mpishards::io {

namespace {

class FaissWriter final : public CountedWriter {
 public:
  FaissWriter(PartialFile file, FaissLayout layout)
      : CountedWriter(std::move(file), layout.rows(), layout.has_ids), layout_(std::move(layout)) {}

 private:
  void write_rows(std::int64_t first, const std::byte* data, std::int64_t rows) override {
    layout_.for_each_piece({first, first + rows}, [&](std::int64_t list, Range piece) {
      const auto bytes = static_cast<std::size_t>((piece.end - piece.begin) * layout_.row_bytes());
      file().write_at(layout_.vectors_at(list) + piece.begin * layout_.row_bytes(), data, bytes);
      data += bytes;
    });
  }

  void write_ids(std::int64_t first, std::span<const GlobalId> ids) override {
    const GlobalId* next = ids.data();
    layout_.for_each_piece({first, first + std::ssize(ids)}, [&](std::int64_t list, Range piece) {
      const std::int64_t count = piece.end - piece.begin;
      file().write_at(layout_.ids_at(list) + piece.begin * static_cast<std::int64_t>(sizeof(GlobalId)), next,
                      static_cast<std::size_t>(count) * sizeof(GlobalId));
      next += count;
    });
  }

  FaissLayout layout_;
};

/// With all of its space reserved: a full disk is noticed now.
std::unique_ptr<VectorWriter> writer_of(PartialFile file, FaissLayout layout) {
  reserve(file.file(), layout.vectors_at(layout.nlist()));
  return std::make_unique<FaissWriter>(std::move(file), std::move(layout));
}

}  // namespace

std::unique_ptr<VectorWriter> create_faiss_flat(const std::string& path, Metric metric, std::int64_t rows,
                                                std::int64_t d, bool with_ids) {
  PartialFile file(path);
  FaissLayout layout = start_faiss_flat(file.file(), metric, rows, d, with_ids);
  return writer_of(std::move(file), std::move(layout));
}

std::unique_ptr<VectorWriter> create_faiss_lists(const std::string& path, Metric metric,
                                                 const IndexLists& lists) {
  PartialFile file(path);
  FaissLayout layout = start_faiss_lists(file.file(), metric, lists);
  return writer_of(std::move(file), std::move(layout));
}

}  // namespace mpishards::io
