#include "io/index_files.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.hpp"
#include "core/narrow.hpp"
#include "io/disk_space.hpp"
#include "io/hdf5_arrays.hpp"
#include "io/result_files.hpp"

namespace mpishards::io {

namespace {

/// Shard files that a process has open at once, at most: the system allows some 1000.
constexpr std::size_t kMaxOpenShards = 256;

std::string labels_path(const std::string& directory) {
  return directory + "/labels";
}

std::string shard_path(const std::string& directory, std::int64_t shard) {
  return directory + "/" + shard_file_name(shard);
}

std::vector<ArrayPlan> list_arrays(const IndexShape& shape) {
  const auto nlist = narrow<hsize_t>(shape.nlist);
  std::vector<ArrayPlan> arrays = {{kListStartsName, DType::i64, {nlist + 1}}};
  const auto d = narrow<hsize_t>(shape.d);
  if (shape.has_centroids) arrays.push_back({kCentroidsName, DType::f32, {nlist, d}});
  if (shape.has_codes())
    arrays.push_back({kCodecName, DType::f32, {narrow<hsize_t>(shape.codes.parameter_rows), d}});
  return arrays;
}

std::vector<ArrayPlan> shard_arrays(const IndexShape& shape, std::int64_t shard) {
  const Range places = shape.shard(shard);
  const auto rows = narrow<hsize_t>(places.end - places.begin);
  std::vector<ArrayPlan> arrays = {{kShardVectorsName, shape.dtype, {rows, narrow<hsize_t>(shape.d)}},
                                   {kShardIdsName, DType::i64, {rows}}};
  if (shape.has_codes())
    arrays.push_back({kShardCodesName, DType::u8, {rows, narrow<hsize_t>(shape.codes.code_bytes)}});
  return arrays;
}

/// Where each array begins.
std::vector<std::int64_t> offsets_in(const std::string& path, const std::vector<ArrayPlan>& arrays) {
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  std::vector<std::int64_t> offsets;
  for (const ArrayPlan& array : arrays) offsets.push_back(bytes_of_array(file, path, array).begin);
  return offsets;
}

}  // namespace

Range IndexShape::shard(std::int64_t s) const {
  const std::int64_t share = rows / n_shards;
  const std::int64_t longer = rows % n_shards;  // the first shards take one row more
  return {s * share + std::min(s, longer), (s + 1) * share + std::min(s + 1, longer)};
}

std::string IndexLayout::serialize() const {
  return nlohmann::json{directory,
                        shape.rows,
                        shape.d,
                        shape.dtype,
                        shape.nlist,
                        shape.has_centroids,
                        shape.codes.codec,
                        shape.codes.code_bytes,
                        shape.codes.parameter_rows,
                        shape.n_shards,
                        centroids_offset,
                        starts_offset,
                        codec_offset,
                        vectors_offsets,
                        ids_offsets,
                        codes_offsets}
      .dump();
}

IndexLayout IndexLayout::deserialize(const std::string& text) {
  const nlohmann::json json = nlohmann::json::parse(text);
  return {.directory = json.at(0),
          .shape = {.rows = json.at(1),
                    .d = json.at(2),
                    .dtype = json.at(3),
                    .nlist = json.at(4),
                    .has_centroids = json.at(5),
                    .codes = {json.at(6), json.at(7), json.at(8)},
                    .n_shards = json.at(9)},
          .centroids_offset = json.at(10),
          .starts_offset = json.at(11),
          .codec_offset = json.at(12),
          .vectors_offsets = json.at(13),
          .ids_offsets = json.at(14),
          .codes_offsets = json.at(15)};
}

IndexLayout create_index_files(const std::string& directory, const IndexShape& shape) {
  create_hdf5_arrays(lists_path(directory), list_arrays(shape));
  for (std::int64_t s = 0; s < shape.n_shards; ++s)
    create_hdf5_arrays(shard_path(directory, s), shard_arrays(shape, s));
  if (shape.has_centroids)
    reserve(File::open_write(labels_path(directory), true),
            shape.rows * narrow<std::int64_t>(sizeof(std::int32_t)));
  return adopt_index_files(directory, shape);
}

IndexLayout adopt_index_files(const std::string& directory, const IndexShape& shape) {
  IndexLayout layout;
  layout.directory = directory;
  layout.shape = shape;
  const std::vector<std::int64_t> lists = offsets_in(lists_path(directory), list_arrays(shape));
  layout.starts_offset = lists[0];
  if (shape.has_centroids) layout.centroids_offset = lists[1];
  if (shape.has_codes()) layout.codec_offset = lists[2];
  for (std::int64_t s = 0; s < shape.n_shards; ++s) {
    const std::vector<std::int64_t> offsets = offsets_in(shard_path(directory, s), shard_arrays(shape, s));
    layout.vectors_offsets.push_back(offsets[0]);
    layout.ids_offsets.push_back(offsets[1]);
    if (shape.has_codes()) layout.codes_offsets.push_back(offsets[2]);
  }
  return layout;
}

void remove_build_files(const std::string& directory) {
  for (const std::string& path : {labels_path(directory), trained_path(directory)}) {
    std::error_code error;
    std::filesystem::remove(path, error);
    if (error) throw Error(ErrorKind::io, "can't remove " + path + ": " + error.message());
  }
}

std::string trained_path(const std::string& directory) {
  return directory + "/trained.faiss";
}

// --- parts
// ------------------------------------------------------------------------------------------------------------

const File& IndexFiles::lists() {
  if (!lists_.is_open()) lists_ = open_shared_output(lists_path(directory()));
  return lists_;
}

const File& IndexFiles::labels() {
  if (!labels_.is_open()) labels_ = open_shared_output(labels_path(directory()));
  return labels_;
}

const File& IndexFiles::shard_file(std::size_t shard) {
  File& file = files_[shard];
  if (file.is_open()) return file;
  if (open_shards_.size() == kMaxOpenShards) sync();
  file = open_shared_output(shard_path(directory(), narrow<std::int64_t>(shard)));
  open_shards_.push_back(shard);
  return file;
}

void IndexFiles::write_centroids(MatrixView<const float> centroids) {
  lists().write_at(layout_.centroids_offset, centroids.data,
                   narrow<std::size_t>(centroids.rows * centroids.cols) * sizeof(float));
}

Matrix IndexFiles::read_centroids() {
  Matrix centroids(DType::f32, shape().nlist, shape().d);
  lists().read_at(layout_.centroids_offset, centroids.data(), centroids.bytes());
  return centroids;
}

void IndexFiles::write_codec(MatrixView<const float> parameters) {
  lists().write_at(layout_.codec_offset, parameters.data,
                   narrow<std::size_t>(parameters.rows * parameters.cols) * sizeof(float));
}

Matrix IndexFiles::read_codec() {
  Matrix parameters(DType::f32, shape().codes.parameter_rows, shape().d);
  lists().read_at(layout_.codec_offset, parameters.data(), parameters.bytes());
  return parameters;
}

void IndexFiles::write_starts(std::span<const std::int64_t> starts) {
  lists().write_at(layout_.starts_offset, starts.data(), starts.size_bytes());
}

void IndexFiles::check_label_range(std::int64_t first_row, std::size_t count) const {
  if (first_row < 0 || first_row + narrow<std::int64_t>(count) > shape().rows)
    throw Error(ErrorKind::internal, std::to_string(count) + " labels from row " + std::to_string(first_row) +
                                         " on of " + std::to_string(shape().rows));
}

void IndexFiles::write_labels(std::int64_t first_row, std::span<const std::int32_t> labels_of_rows) {
  check_label_range(first_row, labels_of_rows.size());
  labels().write_at(first_row * narrow<std::int64_t>(sizeof(std::int32_t)), labels_of_rows.data(),
                    labels_of_rows.size_bytes());
}

void IndexFiles::read_labels(std::int64_t first_row, std::span<std::int32_t> out) {
  check_label_range(first_row, out.size());
  labels().read_at(first_row * narrow<std::int64_t>(sizeof(std::int32_t)), out.data(), out.size_bytes());
  for (const std::int32_t label : out)
    if (label < 0 || label >= shape().nlist)
      throw Error(ErrorKind::data, labels_path(directory()) + " names list " + std::to_string(label) +
                                       " of " + std::to_string(shape().nlist) +
                                       "; it is damaged, --no-resume starts over");
}

std::vector<IndexFiles::Piece> IndexFiles::pieces_of(Range places) const {
  if (places.begin < 0 || places.end > shape().rows)
    throw Error(ErrorKind::internal, "places " + std::to_string(places.begin) + ":" +
                                         std::to_string(places.end) + " of " + std::to_string(shape().rows));
  std::vector<Piece> pieces;
  // The first shards may be longer by a row: none that ends before is further on than this.
  std::int64_t s = places.begin / (shape().rows / shape().n_shards + 1);
  for (std::int64_t at = places.begin; at < places.end; ++s) {
    const Range shard = shape().shard(s);
    if (shard.end <= at) continue;
    const std::int64_t end = std::min(shard.end, places.end);
    pieces.push_back({narrow<std::size_t>(s), at - shard.begin, at - places.begin, end - at});
    at = end;
  }
  return pieces;
}

void IndexFiles::write_rows(std::int64_t first_place, TypedView rows, std::span<const GlobalId> ids) {
  for (const Piece& piece : pieces_of({first_place, first_place + rows.rows})) {
    const File& file = shard_file(piece.shard);
    file.write_at(layout_.vectors_offsets[piece.shard] + piece.first_in_shard * shape().row_bytes(),
                  rows.row(piece.first), narrow<std::size_t>(piece.rows * shape().row_bytes()));
    file.write_at(
        layout_.ids_offsets[piece.shard] + piece.first_in_shard * narrow<std::int64_t>(sizeof(GlobalId)),
        ids.data() + piece.first, narrow<std::size_t>(piece.rows) * sizeof(GlobalId));
  }
}

void IndexFiles::read_rows(std::int64_t first_place, std::byte* rows, std::span<GlobalId> ids) {
  for (const Piece& piece : pieces_of({first_place, first_place + narrow<std::int64_t>(ids.size())})) {
    const File& file = shard_file(piece.shard);
    file.read_at(layout_.vectors_offsets[piece.shard] + piece.first_in_shard * shape().row_bytes(),
                 rows + piece.first * shape().row_bytes(),
                 narrow<std::size_t>(piece.rows * shape().row_bytes()));
    file.read_at(
        layout_.ids_offsets[piece.shard] + piece.first_in_shard * narrow<std::int64_t>(sizeof(GlobalId)),
        ids.data() + piece.first, narrow<std::size_t>(piece.rows) * sizeof(GlobalId));
  }
}

void IndexFiles::write_codes(std::int64_t first_place, std::span<const std::byte> codes) {
  const std::int64_t bytes = shape().codes.code_bytes;
  for (const Piece& piece : pieces_of({first_place, first_place + std::ssize(codes) / bytes}))
    shard_file(piece.shard)
        .write_at(layout_.codes_offsets[piece.shard] + piece.first_in_shard * bytes,
                  codes.data() + piece.first * bytes, narrow<std::size_t>(piece.rows * bytes));
}

void IndexFiles::read_codes(std::int64_t first_place, std::span<std::byte> codes) {
  const std::int64_t bytes = shape().codes.code_bytes;
  for (const Piece& piece : pieces_of({first_place, first_place + std::ssize(codes) / bytes}))
    shard_file(piece.shard)
        .read_at(layout_.codes_offsets[piece.shard] + piece.first_in_shard * bytes,
                 codes.data() + piece.first * bytes, narrow<std::size_t>(piece.rows * bytes));
}

void IndexFiles::sync() {
  for (const std::size_t shard : open_shards_) {
    files_[shard].sync();
    files_[shard].close();
  }
  open_shards_.clear();
  for (File* file : {&lists_, &labels_}) {
    if (!file->is_open()) continue;
    file->sync();
    file->close();
  }
}

}  // namespace mpishards::io
