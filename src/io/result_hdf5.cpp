#include "io/result_hdf5.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/hdf5_arrays.hpp"
#include "io/result_files.hpp"

namespace mpishards::io {

namespace {

/// The arrays of ids and of distances, and in a sparse matrix the row starts.
struct ResultArrays {
  ArrayPlan neighbors;
  ArrayPlan distances;
  std::vector<ArrayPlan> indptr;  // none or one
};

ResultArrays arrays_of(ResultFormat format, std::int64_t nq, std::int64_t k) {
  const std::vector<hsize_t> matrix = {narrow<hsize_t>(nq), narrow<hsize_t>(k)};
  if (format != ResultFormat::csr)
    return {{"neighbors", DType::i64, matrix}, {"distances", DType::f32, matrix}, {}};
  const std::vector<hsize_t> flat = {narrow<hsize_t>(nq * k)};
  return {{"indices", DType::i64, flat},
          {"data", DType::f32, flat},
          {{"indptr", DType::i64, {narrow<hsize_t>(nq + 1)}}}};
}

/// Fills the row starts of a sparse matrix whose rows have k entries each.
void write_indptr(const std::string& path, const ArrayPlan& indptr, std::int64_t k) {
  constexpr std::int64_t kBlockRows = 1 << 20;
  const Hdf5Lock lock;
  const std::int64_t offset = bytes_of_array(open_hdf5_read(path), path, indptr).begin;
  const File file = File::open_write(path, false);
  const auto length = narrow<std::int64_t>(indptr.shape.front());
  for (std::int64_t begin = 0; begin < length; begin += kBlockRows) {
    std::vector<std::int64_t> starts(narrow<std::size_t>(std::min(kBlockRows, length - begin)));
    for (std::size_t i = 0; i < starts.size(); ++i) starts[i] = (begin + static_cast<std::int64_t>(i)) * k;
    file.write_at(offset + begin * std::int64_t{sizeof(std::int64_t)}, starts.data(),
                  starts.size() * sizeof(std::int64_t));
  }
}

/// Brings OUT.partial back to what it was before a publication that was killed.
void restore_metadata(const std::string& out_path) {
  const std::string saved_path = saved_metadata_of(out_path);
  if (!exists(saved_path)) return;
  const nlohmann::json saved = nlohmann::json::parse(read_text(saved_path), nullptr, false);
  if (saved.is_discarded()) throw Error(ErrorKind::data, saved_path + " is damaged; --no-resume starts over");
  const File file = File::open_write(partial_of(out_path), false);
  for (const nlohmann::json& piece : saved.at("pieces")) {
    const auto bytes = piece.at("bytes").get<std::vector<std::uint8_t>>();
    file.write_at(piece.at("offset").get<std::int64_t>(), bytes.data(), bytes.size());
  }
  if (::ftruncate(file.get(), saved.at("size_bytes").get<std::int64_t>()) != 0)
    throw Error(ErrorKind::io, "can't shorten " + file.path() + ": " + std::strerror(errno));
  file.sync();
  std::filesystem::remove(saved_path);
}

}  // namespace

void create_hdf5_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  ResultArrays arrays = arrays_of(format, nq, k);
  std::vector<ArrayPlan> plans = arrays.indptr;
  plans.push_back(std::move(arrays.neighbors));
  plans.push_back(std::move(arrays.distances));
  create_hdf5_output(out_path, plans);
  for (const ArrayPlan& indptr : arrays.indptr) write_indptr(partial_of(out_path), indptr, k);
}

ResultLayout hdf5_layout(const std::string& path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  const ResultArrays arrays = arrays_of(format, nq, k);
  ResultLayout layout{path, path, 0, 0, nq, k, sizeof(GlobalId), false};
  layout.neighbors_offset = bytes_of_array(file, path, arrays.neighbors).begin;
  layout.distances_offset = bytes_of_array(file, path, arrays.distances).begin;
  return layout;
}

void save_metadata(const std::string& out_path) {
  const std::string path = partial_of(out_path);
  const File file = File::open_read(path);
  nlohmann::json saved = {{"size_bytes", file.size_bytes()}, {"pieces", nlohmann::json::array()}};
  std::int64_t begin = 0;
  const auto save_until = [&](std::int64_t end) {
    if (begin >= end) return;
    std::vector<std::uint8_t> bytes(narrow<std::size_t>(end - begin));
    file.read_at(begin, bytes.data(), bytes.size());
    saved["pieces"].push_back({{"offset", begin}, {"bytes", bytes}});
  };
  for (const Range& array : bytes_of_arrays(path)) {
    save_until(array.begin);
    begin = array.end;
  }
  save_until(file.size_bytes());
  write_text_atomically(saved_metadata_of(out_path), saved.dump());
}

void reopen_hdf5_output(const std::string& out_path) {
  undo_publication(out_path, ResultFormat::h5);
  restore_metadata(out_path);
}

}  // namespace mpishards::io
