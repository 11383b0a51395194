#include "io/index_directory.hpp"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <variant>

#include "core/error.hpp"
#include "core/hex.hpp"
#include "core/narrow.hpp"
#include "io/file.hpp"
#include "io/hdf5_arrays.hpp"

namespace mpishards::io {

namespace {

using nlohmann::json;

constexpr const char* kFormat = "mpishards.index";
constexpr int kVersion = 2;
constexpr int kFaissVersion = 3;  // of what FAISS searches: earlier programs know nothing of it
constexpr const char* kManifestName = "manifest.json";
constexpr const char* kListsName = "lists.h5";
constexpr std::int64_t kHashBlockBytes = 1 << 20;

std::string manifest_path(const std::string& directory) {
  return directory + "/" + kManifestName;
}

[[noreturn]] void throw_damaged(const std::string& path, const std::string& found) {
  throw Error(ErrorKind::data, path + ": " + found + "; the index is damaged, build it again");
}

// --- manifest
// ---------------------------------------------------------------------------------------------------------

json facts_to_json(const Attributes& facts) {
  json object = json::object();
  for (const auto& [name, value] : facts)
    std::visit([&object, &name = name](const auto& v) { object[name] = v; }, value);
  return object;
}

Attributes facts_from_json(const json& object) {
  Attributes facts;
  for (const auto& [name, value] : object.items()) {
    if (value.is_number_integer())
      facts[name] = value.get<std::int64_t>();
    else if (value.is_number())
      facts[name] = value.get<double>();
    else
      facts[name] = value.get<std::string>();
  }
  return facts;
}

std::uint64_t hash_from(const json& text, const std::string& path) {
  const std::optional<std::uint64_t> hash = from_hex(text.get<std::string>());
  if (!hash) throw_damaged(path, "'" + text.get<std::string>() + "' is no hash");
  return *hash;
}

bool has_faiss(const IndexManifest& manifest) {
  return manifest.type == "faiss";
}

json to_json(const IndexManifest& manifest) {
  json shards = json::array();
  for (const IndexShard& shard : manifest.shards)
    shards.push_back({{"file", shard.file},
                      {"first_row", shard.first_row},
                      {"rows", shard.rows},
                      {"size_bytes", shard.size_bytes},
                      {"vectors_hash", hex(shard.vectors_hash)},
                      {"ids_hash", hex(shard.ids_hash)},
                      {"codes_hash", hex(shard.codes_hash)}});
  json object = {{"format", kFormat},
                 {"version", kVersion},
                 {"type", manifest.type},
                 {"metric", to_string(manifest.metric)},
                 {"rows", manifest.rows},
                 {"d", manifest.d},
                 {"dtype", to_string(manifest.dtype)},
                 {"nlist", manifest.nlist},
                 {"codes",
                  {{"codec", manifest.codes.codec},
                   {"code_bytes", manifest.codes.code_bytes},
                   {"parameter_rows", manifest.codes.parameter_rows}}},
                 {"shards", shards},
                 {"lists_hash", hex(manifest.lists_hash)},
                 {"facts", facts_to_json(manifest.facts)}};
  if (!has_faiss(manifest)) return object;
  object["version"] = kFaissVersion;
  object["faiss"] = {{"factory", manifest.faiss.factory},
                     {"parameter", manifest.faiss.parameter},
                     {"most", manifest.faiss.most},
                     {"table_bytes", manifest.faiss.table_bytes}};
  for (std::size_t s = 0; s < manifest.shards.size(); ++s) {
    object["shards"][s]["faiss_bytes"] = manifest.shards[s].faiss_bytes;
    object["shards"][s]["faiss_hash"] = hex(manifest.shards[s].faiss_hash);
  }
  return object;
}

/// What version 3 has beyond version 2.
void read_faiss(const json& object, const std::string& path, IndexManifest& manifest) {
  const json& faiss = object.at("faiss");
  manifest.faiss = {.factory = faiss.at("factory"),
                    .parameter = faiss.at("parameter"),
                    .most = faiss.at("most"),
                    .table_bytes = faiss.at("table_bytes")};
  for (std::size_t s = 0; s < manifest.shards.size(); ++s) {
    manifest.shards[s].faiss_bytes = object.at("shards").at(s).at("faiss_bytes");
    manifest.shards[s].faiss_hash = hash_from(object.at("shards").at(s).at("faiss_hash"), path);
  }
}

IndexManifest from_json(const json& object, const std::string& path) {
  IndexManifest manifest;
  manifest.type = object.at("type");
  manifest.metric = metric_from_string(object.at("metric").get<std::string>());
  manifest.rows = object.at("rows");
  manifest.d = object.at("d");
  manifest.dtype = dtype_from_string(object.at("dtype").get<std::string>());
  manifest.nlist = object.at("nlist");
  const json& codes = object.at("codes");
  manifest.codes = {.codec = codes.at("codec"),
                    .code_bytes = codes.at("code_bytes"),
                    .parameter_rows = codes.at("parameter_rows")};
  manifest.lists_hash = hash_from(object.at("lists_hash"), path);
  manifest.facts = facts_from_json(object.at("facts"));
  for (const json& shard : object.at("shards"))
    manifest.shards.push_back({.file = shard.at("file"),
                               .first_row = shard.at("first_row"),
                               .rows = shard.at("rows"),
                               .size_bytes = shard.at("size_bytes"),
                               .vectors_hash = hash_from(shard.at("vectors_hash"), path),
                               .ids_hash = hash_from(shard.at("ids_hash"), path),
                               .codes_hash = hash_from(shard.at("codes_hash"), path)});
  if (object.at("version") == kFaissVersion) read_faiss(object, path, manifest);
  return manifest;
}

/// The whole file: the object with the checksum of its text without it.
std::string text_of(json object) {
  object.erase("xxh3");
  const std::string body = object.dump(2);
  object["xxh3"] = hex(XXH3_64bits(body.data(), body.size()));
  return object.dump(2) + "\n";
}

json parse_manifest(const std::string& path) {
  const std::string text = read_text(path);
  json object = json::parse(text, nullptr, false);
  if (!object.is_object() || object.value("format", json()) != kFormat)
    throw Error(ErrorKind::data, path +
                                     " is no manifest of an index of mpishards, or is damaged; name the "
                                     "folder that mpishards build wrote");
  const json version = object.value("version", json());
  if (version != kVersion && version != kFaissVersion)
    throw Error(ErrorKind::data, path + " has format version " + version.dump() +
                                     ", this program reads versions " + std::to_string(kVersion) + " and " +
                                     std::to_string(kFaissVersion) + "; build the index again");
  if (text != text_of(object)) throw_damaged(path, "its checksum does not fit");
  return object;
}

void check_numbers(const IndexManifest& manifest, const std::string& path) {
  if (manifest.d < 1 || manifest.rows < 1 || manifest.nlist < 1)
    throw_damaged(path, std::to_string(manifest.rows) + " x " + std::to_string(manifest.d) + " rows in " +
                            std::to_string(manifest.nlist) + " lists");
  const IndexCodes& codes = manifest.codes;
  if (codes.codec.empty() != (codes.code_bytes == 0) || codes.codec.empty() != (codes.parameter_rows == 0) ||
      codes.code_bytes < 0 || codes.parameter_rows < 0)
    throw_damaged(path, "codes '" + codes.codec + "' of " + std::to_string(codes.code_bytes) + " bytes");
  const IndexFaiss& faiss = manifest.faiss;
  if (has_faiss(manifest) == faiss.factory.empty() || faiss.parameter.empty() != (faiss.most == 0) ||
      faiss.most < 0 || faiss.table_bytes < 0)
    throw_damaged(path, "an index of FAISS '" + faiss.factory + "' of type " + manifest.type);
  std::int64_t at = 0;
  for (std::size_t i = 0; i < manifest.shards.size(); ++i) {
    const IndexShard& shard = manifest.shards[i];
    if (shard.file != shard_file_name(static_cast<std::int64_t>(i)))
      throw_damaged(path, "shard " + std::to_string(i) + " is named '" + shard.file + "'");
    if (shard.first_row != at || shard.rows < 0)
      throw_damaged(path, shard.file + " has " + std::to_string(shard.rows) + " rows from row " +
                              std::to_string(shard.first_row) + " on, expected row " + std::to_string(at));
    at += shard.rows;
  }
  if (at != manifest.rows)
    throw_damaged(path,
                  "its shards have " + std::to_string(at) + " rows, not " + std::to_string(manifest.rows));
}

// --- files
// ------------------------------------------------------------------------------------------------------------

void require_file(const std::string& path) {
  if (!exists(path))
    throw Error(ErrorKind::input_missing,
                path + " is missing; copy the whole folder of the index, or build it again");
}

void check_file(const std::string& path, std::int64_t expected_bytes) {
  require_file(path);
  const std::int64_t found = File::open_read(path).size_bytes();
  if (found != expected_bytes)
    throw Error(ErrorKind::data, path + " has " + std::to_string(found) + " bytes, expected " +
                                     std::to_string(expected_bytes) +
                                     "; it is truncated or damaged, copy it again or build the index again");
}

void check_starts(const std::vector<std::int64_t>& starts, std::int64_t rows, const std::string& path) {
  if (starts.front() != 0 || starts.back() != rows || !std::ranges::is_sorted(starts))
    throw_damaged(path, std::string(kListStartsName) + " does not ascend from 0 to " + std::to_string(rows));
}

bool has_centroids(const IndexManifest& manifest) {
  return manifest.type == "ivf";
}

std::string shard_name(std::int64_t shard, const char* suffix) {
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "shard-%05lld%s", static_cast<long long>(shard), suffix);
  return name.data();
}

std::vector<InputSpec> shard_inputs(const std::string& directory, const IndexManifest& manifest,
                                    const char* dataset) {
  std::vector<InputSpec> inputs;
  for (const IndexShard& shard : manifest.shards) inputs.push_back({directory + "/" + shard.file, dataset});
  return inputs;
}

}  // namespace

bool is_index_directory(const std::string& path) {
  std::error_code unknown;
  return std::filesystem::is_directory(path, unknown) && exists(manifest_path(path));
}

IndexManifest read_index(const std::string& directory) {
  const std::string path = manifest_path(directory);
  if (!exists(path))
    throw Error(ErrorKind::input_missing,
                path + " does not exist; name the folder that mpishards build wrote");
  try {
    IndexManifest manifest = from_json(parse_manifest(path), path);
    check_numbers(manifest, path);
    require_file(lists_path(directory));
    for (std::size_t s = 0; s < manifest.shards.size(); ++s) {
      check_file(directory + "/" + manifest.shards[s].file, manifest.shards[s].size_bytes);
      if (has_faiss(manifest))
        check_file(faiss_path(directory, static_cast<std::int64_t>(s)), manifest.shards[s].faiss_bytes);
    }
    return manifest;
  } catch (const json::exception& error) {
    throw_damaged(path, error.what());
  }
}

void write_index_manifest(const std::string& directory, const IndexManifest& manifest) {
  write_text_atomically(manifest_path(directory), text_of(to_json(manifest)));
}

IndexLists read_lists(const std::string& directory, const IndexManifest& manifest) {
  const std::string path = lists_path(directory);
  // Before HDF5 sees it: the library does not survive every damaged file.
  if (hash_file(path) != manifest.lists_hash) throw_damaged(path, "its checksum is not that of the manifest");
  const auto nlist = narrow<hsize_t>(manifest.nlist);
  const ArrayPlan centroids{kCentroidsName, DType::f32, {nlist, narrow<hsize_t>(manifest.d)}};
  const ArrayPlan codec{
      kCodecName, DType::f32, {narrow<hsize_t>(manifest.codes.parameter_rows), narrow<hsize_t>(manifest.d)}};
  const ArrayPlan starts{kListStartsName, DType::i64, {nlist + 1}};
  const Hdf5Lock lock;
  const H5File file = open_hdf5_read(path);
  const File bytes = File::open_read(path);
  IndexLists lists;
  lists.centroids = Matrix(DType::f32, has_centroids(manifest) ? manifest.nlist : 0, manifest.d);
  lists.codec = Matrix(DType::f32, manifest.codes.parameter_rows, manifest.d);
  lists.starts.resize(narrow<std::size_t>(manifest.nlist + 1));
  if (has_centroids(manifest))
    bytes.read_at(bytes_of_array(file, path, centroids).begin, lists.centroids.data(),
                  lists.centroids.bytes());
  if (lists.codec.rows() > 0)
    bytes.read_at(bytes_of_array(file, path, codec).begin, lists.codec.data(), lists.codec.bytes());
  bytes.read_at(bytes_of_array(file, path, starts).begin, lists.starts.data(),
                lists.starts.size() * sizeof(std::int64_t));
  check_starts(lists.starts, manifest.rows, path);
  return lists;
}

std::vector<InputSpec> index_inputs(const std::string& directory, const IndexManifest& manifest) {
  return shard_inputs(directory, manifest, kShardVectorsName);
}

std::vector<InputSpec> index_code_inputs(const std::string& directory, const IndexManifest& manifest) {
  return shard_inputs(directory, manifest, kShardCodesName);
}

std::string lists_path(const std::string& directory) {
  return directory + "/" + kListsName;
}

std::string shard_file_name(std::int64_t shard) {
  return shard_name(shard, ".h5");
}

std::string faiss_path(const std::string& directory, std::int64_t shard) {
  return directory + "/" + shard_name(shard, ".faiss");
}

std::uint64_t hash_file(const std::string& path) {
  const File file = File::open_read(path);
  const std::int64_t size = file.size_bytes();
  const std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state(XXH3_createState(),
                                                                              XXH3_freeState);
  XXH3_64bits_reset(state.get());
  std::vector<std::byte> block(narrow<std::size_t>(std::min(size, kHashBlockBytes)));
  for (std::int64_t at = 0; at < size; at += kHashBlockBytes) {
    const auto bytes = narrow<std::size_t>(std::min(kHashBlockBytes, size - at));
    file.read_at(at, block.data(), bytes);
    XXH3_64bits_update(state.get(), block.data(), bytes);
  }
  return XXH3_64bits_digest(state.get());
}

}  // namespace mpishards::io
