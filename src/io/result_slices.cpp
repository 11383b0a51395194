#include <bit>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/result_files.hpp"
#include "io/results_writer.hpp"

namespace mpishards::io {

namespace {

static_assert(std::endian::native == std::endian::little, "all three formats are little-endian on disk");

File open_slices(const std::string& path, bool may_create) {
  return may_create ? File::open_write(path, false) : open_shared_output(path);
}

}  // namespace

std::int64_t ResultLayout::neighbors_bytes() const {
  return nq * k * id_bytes;
}

std::int64_t ResultLayout::distances_bytes() const {
  return nq * k * narrow<std::int64_t>(sizeof(float));
}

std::string ResultLayout::serialize() const {
  return nlohmann::json{{"neighbors_path", neighbors_path},
                        {"distances_path", distances_path},
                        {"neighbors_offset", neighbors_offset},
                        {"distances_offset", distances_offset},
                        {"nq", nq},
                        {"k", k},
                        {"id_bytes", id_bytes},
                        {"may_create", may_create}}
      .dump();
}

ResultLayout ResultLayout::deserialize(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return {json.at("neighbors_path"),
          json.at("distances_path"),
          json.at("neighbors_offset"),
          json.at("distances_offset"),
          json.at("nq"),
          json.at("k"),
          json.at("id_bytes"),
          json.at("may_create")};
}

ResultSlices::ResultSlices(const ResultLayout& layout)
    : layout_(layout),
      neighbors_(open_slices(layout.neighbors_path, layout.may_create)),
      distances_(open_slices(layout.distances_path, layout.may_create)) {}

void ResultSlices::write(std::int64_t first_query, const TopK& rows) const {
  if (rows.k() != layout_.k || first_query < 0 || first_query + rows.nq() > layout_.nq)
    throw Error(ErrorKind::internal, "rows [" + std::to_string(first_query) + ", " +
                                         std::to_string(first_query + rows.nq()) + ") x " +
                                         std::to_string(rows.k()) + " written to a result of " +
                                         std::to_string(layout_.nq) + " x " + std::to_string(layout_.k));
  const std::int64_t first = first_query * layout_.k;
  const auto count = narrow<std::size_t>(rows.nq() * rows.k());
  const std::int64_t neighbors_at = layout_.neighbors_offset + first * layout_.id_bytes;
  if (layout_.id_bytes == sizeof(GlobalId)) {
    neighbors_.write_at(neighbors_at, rows.neighbors(), count * sizeof(GlobalId));
  } else {
    std::vector<std::int32_t> ids(count);
    for (std::size_t i = 0; i < count; ++i) ids[i] = narrow<std::int32_t>(rows.neighbors()[i]);
    neighbors_.write_at(neighbors_at, ids.data(), count * sizeof(std::int32_t));
  }
  distances_.write_at(layout_.distances_offset + first * narrow<std::int64_t>(sizeof(float)),
                      rows.distances(), count * sizeof(float));
}

TopK ResultSlices::read(std::int64_t first_query, std::int64_t nq, Metric metric) const {
  TopK rows(nq, layout_.k, metric);
  const std::int64_t first = first_query * layout_.k;
  const auto count = narrow<std::size_t>(nq * layout_.k);
  const std::int64_t neighbors_at = layout_.neighbors_offset + first * layout_.id_bytes;
  if (layout_.id_bytes == sizeof(GlobalId)) {
    neighbors_.read_at(neighbors_at, rows.neighbors(), count * sizeof(GlobalId));
  } else {
    std::vector<std::int32_t> ids(count);
    neighbors_.read_at(neighbors_at, ids.data(), count * sizeof(std::int32_t));
    for (std::size_t i = 0; i < count; ++i) rows.neighbors()[i] = ids[i];
  }
  distances_.read_at(layout_.distances_offset + first * narrow<std::int64_t>(sizeof(float)), rows.distances(),
                     count * sizeof(float));
  return rows;
}

void ResultSlices::sync() const {
  neighbors_.sync();
  distances_.sync();
}

}  // namespace mpishards::io
