#include "io/results_writer.hpp"

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "io/disk_space.hpp"
#include "io/hdf5_attributes.hpp"
#include "io/result_files.hpp"
#include "io/result_hdf5.hpp"
#include "io/result_plain.hpp"

namespace mpishards::io {

namespace {

nlohmann::json to_json(const Attributes& attributes) {
  nlohmann::json json = nlohmann::json::object();
  for (const auto& [name, value] : attributes)
    std::visit([&json, &name = name](const auto& v) { json[name] = v; }, value);
  return json;
}

void require_shape(ResultFormat format, std::int64_t nq, std::int64_t k, std::int64_t max_id) {
  if (nq < 0 || k < 1)
    throw Error(ErrorKind::internal, "a result of " + std::to_string(nq) + " x " + std::to_string(k));
  if (format != ResultFormat::ibin) return;
  constexpr std::int64_t kMaxInt32 = std::numeric_limits<std::int32_t>::max();
  if (max_id > kMaxInt32)
    throw Error(ErrorKind::usage, "format ibin has 32-bit ids, the largest id here is " +
                                      std::to_string(max_id) + "; use --format h5 or npy");
  if (nq > kMaxInt32 || k > kMaxInt32)
    throw Error(ErrorKind::usage, "format ibin has 32-bit sizes, this result is " + std::to_string(nq) +
                                      " x " + std::to_string(k) + "; use --format h5 or npy");
}

ResultLayout make_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  if (is_hdf5(format)) {
    create_hdf5_result(out_path, format, nq, k);
    return hdf5_layout(partial_of(out_path), format, nq, k);
  }
  const PlainResult result = plain_result(out_path, format, nq, k);
  require_free_space(folder_of(out_path), result.layout.neighbors_bytes() + result.layout.distances_bytes());
  create_plain(result);
  return result.layout;
}

}  // namespace

ResultLayout create_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k,
                           std::int64_t max_id) {
  require_shape(format, nq, k, max_id);
  return make_output(out_path, format, [&] { return make_result(out_path, format, nq, k); });
}

ResultLayout adopt_result(const std::string& out_path, ResultFormat format, std::int64_t nq, std::int64_t k) {
  if (is_hdf5(format)) {
    reopen_hdf5_output(out_path);
    return hdf5_layout(partial_of(out_path), format, nq, k);
  }
  undo_publication(out_path, format);
  const PlainResult result = plain_result(out_path, format, nq, k);
  check_plain(result);
  return result.layout;
}

void publish_result(const std::string& out_path, ResultFormat format, const Attributes& attributes) {
  const ResultFiles files = files_of(out_path, format);
  if (is_hdf5(format)) {
    save_metadata(out_path);
    set_hdf5_attributes(partial_of(out_path), attributes);
  } else {
    write_text_atomically(files.attributes, to_json(attributes).dump(2) + "\n");
  }
  for (const std::string& path : files.arrays) File::open_write(partial_of(path), false).sync();
  for (const std::string& path : files.arrays) publish(partial_of(path), path);
  std::error_code ignored;  // a leftover is removed by the next run that creates this output
  std::filesystem::remove(saved_metadata_of(out_path), ignored);
}

}  // namespace mpishards::io
