#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "io/vector_source.hpp"
#include "io/vector_source_contiguous.hpp"

namespace mpishards::io {

namespace {

class ConcatSource final : public VectorSource {
 public:
  explicit ConcatSource(std::vector<std::unique_ptr<VectorSource>> parts) : parts_(std::move(parts)) {
    for (const auto& part : parts_) {
      require_alike(*parts_.front(), *part);
      ends_.push_back(rows() + part->rows());
    }
    name_ = first().name() + " and " + std::to_string(parts_.size() - 1) + " more";
  }

  std::int64_t rows() const override { return ends_.empty() ? 0 : ends_.back(); }
  std::int64_t cols() const override { return first().cols(); }
  DType dtype() const override { return first().dtype(); }
  const std::string& name() const override { return name_; }
  std::string_view format() const override { return first().format(); }
  std::string layout() const override {
    return std::to_string(parts_.size()) + " files, first " + first().layout();
  }
  bool is_read_in_parallel() const override {
    return std::ranges::all_of(parts_, [](const auto& part) { return part->is_read_in_parallel(); });
  }
  bool has_ids() const override { return first().has_ids(); }
  std::string ids_problem() const override {
    for (const auto& part : parts_)
      if (std::string problem = part->ids_problem(); !problem.empty()) return problem;
    return {};
  }

  void read_rows(std::int64_t begin, std::int64_t end, std::byte* out) const override {
    const std::int64_t row_bytes = cols() * static_cast<std::int64_t>(size_bytes(dtype()));
    for_each_part(begin, end,
                  [&](const VectorSource& part, std::int64_t b, std::int64_t e, std::int64_t done) {
                    part.read_rows(b, e, out + done * row_bytes);
                  });
  }

  void read_ids(std::int64_t begin, std::int64_t end, std::span<GlobalId> out) const override {
    for_each_part(
        begin, end, [&](const VectorSource& part, std::int64_t b, std::int64_t e, std::int64_t done) {
          part.read_ids(b, e, out.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(e - b)));
        });
  }

  std::string describe_row(std::int64_t row) const override {
    require_row_range(*this, row, row + 1);
    const std::size_t part = part_of(row);
    return parts_[part]->describe_row(row - start_of(part));
  }

 private:
  const VectorSource& first() const { return *parts_.front(); }
  std::int64_t start_of(std::size_t part) const { return part == 0 ? 0 : ends_[part - 1]; }
  std::size_t part_of(std::int64_t row) const {
    return static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), row) - ends_.begin());
  }

  /// Calls visit(part, begin, end, rows before) for each part's share of [begin, end).
  template <class Visit>
  void for_each_part(std::int64_t begin, std::int64_t end, const Visit& visit) const {
    require_row_range(*this, begin, end);
    for (std::int64_t row = begin; row < end;) {
      const std::size_t part = part_of(row);
      const std::int64_t next = std::min(end, ends_[part]);
      visit(*parts_[part], row - start_of(part), next - start_of(part), row - begin);
      row = next;
    }
  }

  static void require_alike(const VectorSource& a, const VectorSource& b) {
    const auto refuse = [&](const std::string& in_b, const std::string& in_a) {
      throw Error(ErrorKind::data, b.name() + " has " + in_b + ", " + a.name() + " has " + in_a +
                                       "; the files of one base must agree");
    };
    if (a.cols() != b.cols()) refuse("d = " + std::to_string(b.cols()), "d = " + std::to_string(a.cols()));
    if (a.dtype() != b.dtype())
      refuse("dtype " + std::string(to_string(b.dtype())), "dtype " + std::string(to_string(a.dtype())));
    if (a.has_ids() != b.has_ids())
      refuse(b.has_ids() ? "ids of its own" : "no ids", a.has_ids() ? "ids of its own" : "none");
  }

  std::vector<std::unique_ptr<VectorSource>> parts_;
  std::vector<std::int64_t> ends_;  // row after the last of each part
  std::string name_;
};

}  // namespace

std::unique_ptr<VectorSource> concatenate(std::vector<std::unique_ptr<VectorSource>> sources) {
  if (sources.empty()) throw Error(ErrorKind::internal, "concatenate needs at least one source");
  if (sources.size() == 1) return std::move(sources.front());
  return std::make_unique<ConcatSource>(std::move(sources));
}

}  // namespace mpishards::io
