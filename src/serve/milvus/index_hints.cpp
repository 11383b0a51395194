#include "serve/milvus/index_hints.hpp"

#include <algorithm>
#include <array>

#include "serve/milvus/translate.hpp"
#include "serve/status.hpp"

namespace mpishards::serve::milvus {

namespace {

constexpr std::array<std::string_view, 20> kVectorIndexTypes = {
    "AUTOINDEX", "FLAT",         "IVF_FLAT",   "IVF_SQ8",  "IVF_PQ",
    "IVF_HNSW",  "IVF_RABITQ",   "HNSW",       "HNSW_SQ",  "HNSW_PQ",
    "HNSW_PRQ",  "SCANN",        "DISKANN",    "GPU_FLAT", "GPU_BRUTE_FORCE",
    "GPU_CAGRA", "GPU_IVF_FLAT", "GPU_IVF_PQ", "ANNOY",    "RHNSW_FLAT"};
constexpr std::array<std::string_view, 6> kScalarIndexTypes = {"AUTOINDEX", "STL_SORT", "INVERTED",
                                                               "BITMAP",    "Trie",     "marisa-trie"};

std::string value_of(const Parameters& params, std::string_view key) {
  const auto found = params.find(key);
  return found == params.end() ? "" : found->second;
}

void check_type(const std::string& type, std::span<const std::string_view> known, std::string_view field) {
  if (type.empty() || std::ranges::find(known, type) != known.end()) return;
  throw RequestError(Code::invalid_parameter, "invalid parameter: index type " + type +
                                                  " is not supported on field " + std::string(field));
}

IndexHints::Index vector_index(const CollectionInfo& info) {
  return {std::string(kVectorField),
          std::string(kVectorField),
          {{"index_type", "FLAT"}, {"metric_type", metric_type(info.metric)}, {"params", "{}"}}};
}

}  // namespace

void IndexHints::create(const CollectionInfo& info, const std::string& field, const std::string& name,
                        const Parameters& params) {
  Index index{name.empty() ? field : name, field, params};
  const std::string type = value_of(params, "index_type");
  if (field == kVectorField) {
    check_type(type, kVectorIndexTypes, field);
    const std::string metric = value_of(params, "metric_type");
    if (!metric.empty() && metric != metric_type(info.metric))
      throw RequestError(Code::invalid_parameter, "invalid parameter: metric type " + metric +
                                                      "; the collection " + info.name + " is served with " +
                                                      metric_type(info.metric));
    index.params.try_emplace("index_type", "FLAT");
    index.params.try_emplace("metric_type", metric_type(info.metric));
  } else if (field == kIdField) {
    check_type(type, kScalarIndexTypes, field);
  } else {
    throw RequestError(Code::field_not_found, "field " + field + " not exist");
  }
  std::size_t bytes = index.name.size();
  for (const auto& [key, value] : index.params) bytes += key.size() + value.size();
  if (bytes > kMostHintBytes)
    throw RequestError(Code::invalid_parameter, "invalid parameter: the index's name and parameters have " +
                                                    std::to_string(bytes) + " bytes, at most " +
                                                    std::to_string(kMostHintBytes) + " are kept");
  const std::lock_guard lock(mutex_);
  hints_[{info.slot, field}] = std::move(index);
}

void IndexHints::drop(const CollectionInfo& info, const std::string& field, const std::string& name) {
  const std::vector<Index> found = find(info, field, name);
  if (found.empty())
    throw RequestError(Code::index_not_found, "index not found[index=" + (name.empty() ? field : name) + "]");
  const std::lock_guard lock(mutex_);
  for (const Index& index : found) hints_.erase({info.slot, index.field});
}

std::vector<IndexHints::Index> IndexHints::find(const CollectionInfo& info, std::string_view field,
                                                std::string_view name) const {
  std::vector<Index> all;
  {
    const std::lock_guard lock(mutex_);
    const auto vector = hints_.find({info.slot, std::string(kVectorField)});
    all.push_back(vector == hints_.end() ? vector_index(info) : vector->second);
    if (const auto id = hints_.find({info.slot, std::string(kIdField)}); id != hints_.end())
      all.push_back(id->second);
  }
  std::erase_if(all, [&](const Index& index) {
    return name.empty() ? !field.empty() && index.field != field : index.name != name;
  });
  return all;
}

}  // namespace mpishards::serve::milvus
