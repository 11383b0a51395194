#include "io/faiss_source.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "core/error.hpp"
#include "io/faiss_layout.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

class FaissSource final : public VectorSource {
 public:
  FaissSource(File file, FaissLayout layout) : file_(std::move(file)), layout_(std::move(layout)) {}

  std::int64_t rows() const override { return layout_.rows(); }
  std::int64_t cols() const override { return layout_.d; }
  DType dtype() const override { return DType::f32; }
  const std::string& name() const override { return file_.path(); }
  std::string_view format() const override { return "faiss"; }
  std::string layout() const override {
    const std::string words = layout_.has_lists ? std::to_string(layout_.nlist()) + " lists" : "contiguous";
    return words + ", " + std::string(to_string(layout_.metric));
  }
  bool has_ids() const override { return layout_.has_ids; }

  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    require_row_range(*this, begin, end);
    layout_.for_each_piece({begin, end}, [&](std::int64_t list, Range rows) {
      const auto bytes = static_cast<std::size_t>((rows.end - rows.begin) * layout_.row_bytes());
      file_.read_at(layout_.vectors_at(list) + rows.begin * layout_.row_bytes(), out, bytes);
      out += bytes;
    });
  }

  void read_ids(std::int64_t begin, std::int64_t end, std::span<GlobalId> out) const override {
    if (!layout_.has_ids) return VectorSource::read_ids(begin, end, out);
    require_row_range(*this, begin, end);
    std::size_t at = 0;
    layout_.for_each_piece({begin, end}, [&](std::int64_t list, Range rows) {
      const auto count = static_cast<std::size_t>(rows.end - rows.begin);
      const std::int64_t first = rows.begin * static_cast<std::int64_t>(sizeof(GlobalId));
      file_.read_at(layout_.ids_at(list) + first, &out[at], count * sizeof(GlobalId));
      at += count;
    });
    if (layout_.id_map_offset > 0) map_ids(begin, out);
    const auto bad = std::ranges::find_if(out, [](GlobalId id) { return id < 0; });
    if (bad != out.end())
      throw Error(ErrorKind::data, describe_row(begin + (bad - out.begin())) + ": id " +
                                       std::to_string(*bad) + " is negative, expected an id of 0 or more");
  }

  std::string describe_row(std::int64_t row) const override {
    const std::string text = VectorSource::describe_row(row);
    return layout_.has_lists ? text + " (in list " + std::to_string(layout_.list_of(row)) + ")" : text;
  }

 private:
  /// One read for each: ids that follow each other in a list are anywhere in the map.
  void map_ids(std::int64_t first_row, std::span<GlobalId> ids) const {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (ids[i] < 0 || ids[i] >= layout_.rows())
        throw Error(ErrorKind::data, describe_row(first_row + static_cast<std::int64_t>(i)) + " has place " +
                                         std::to_string(ids[i]) + " in the IndexIDMap, which has " +
                                         std::to_string(layout_.rows()) +
                                         "; the file is damaged, write it again");
      file_.read_at(layout_.id_map_offset + ids[i] * static_cast<std::int64_t>(sizeof(GlobalId)), &ids[i],
                    sizeof(GlobalId));
    }
  }

  File file_;
  FaissLayout layout_;
};

}  // namespace

std::unique_ptr<VectorSource> open_faiss(const InputSpec& spec, std::optional<DType>) {
  File file = open_data_file(spec.path);
  FaissLayout layout = read_faiss_layout(file);
  return std::make_unique<FaissSource>(std::move(file), std::move(layout));
}

}  // namespace mpishards::io
