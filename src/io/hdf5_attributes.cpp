#include "io/hdf5_attributes.hpp"

#include <array>
#include <optional>

#include "core/error.hpp"

namespace mpishards::io {

namespace {

struct SetAttribute {
  const H5File& file;
  const std::string& path;
  const std::string& name;

  void operator()(std::int64_t value) const { write(H5T_STD_I64LE, H5T_NATIVE_INT64, &value); }
  void operator()(double value) const { write(H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value); }
  void operator()(const std::string& value) const {
    // Variable length: its text lies outside the object header, where attributes end at 64 KiB.
    const H5Type type(H5Tcopy(H5T_C_S1), "H5Tcopy", path);
    check_hdf5(H5Tset_size(type.get(), H5T_VARIABLE), "H5Tset_size", path);
    check_hdf5(H5Tset_cset(type.get(), H5T_CSET_UTF8), "H5Tset_cset", path);
    const char* text = value.c_str();
    write(type.get(), type.get(), &text);
  }

 private:
  void write(hid_t stored, hid_t native, const void* value) const {
    const std::string subject = path + " attribute " + name;
    if (check_hdf5(H5Aexists(file.get(), name.c_str()), "H5Aexists", subject, ErrorKind::io) > 0)
      check_hdf5(H5Adelete(file.get(), name.c_str()), "H5Adelete", subject, ErrorKind::io);
    const H5Space space(H5Screate(H5S_SCALAR), "H5Screate", subject, ErrorKind::io);
    const H5Attribute attribute(
        H5Acreate2(file.get(), name.c_str(), stored, space.get(), H5P_DEFAULT, H5P_DEFAULT), "H5Acreate2",
        subject, ErrorKind::io);
    check_hdf5(H5Awrite(attribute.get(), native, value), "H5Awrite", subject, ErrorKind::io);
  }
};

std::optional<Attribute> read_string(const H5Attribute& attribute, const H5Type& type,
                                     const std::string& path) {
  if (check_hdf5(H5Tis_variable_str(type.get()), "H5Tis_variable_str", path) > 0) {
    char* text = nullptr;
    check_hdf5(H5Aread(attribute.get(), type.get(), &text), "H5Aread", path);
    std::string value = text == nullptr ? "" : text;
    H5free_memory(text);
    return value;
  }
  std::string value(H5Tget_size(type.get()), '\0');
  check_hdf5(H5Aread(attribute.get(), type.get(), value.data()), "H5Aread", path);
  return value.substr(0, value.find('\0'));
}

/// A scalar integer, number or text; other attributes are nobody's business here.
std::optional<Attribute> read_attribute(const H5Attribute& attribute, const std::string& path) {
  const H5Space space(H5Aget_space(attribute.get()), "H5Aget_space", path);
  if (H5Sget_simple_extent_npoints(space.get()) != 1) return std::nullopt;
  const H5Type type(H5Aget_type(attribute.get()), "H5Aget_type", path);
  switch (H5Tget_class(type.get())) {
    case H5T_STRING:
      return read_string(attribute, type, path);
    case H5T_INTEGER: {
      std::int64_t value = 0;
      check_hdf5(H5Aread(attribute.get(), H5T_NATIVE_INT64, &value), "H5Aread", path);
      return value;
    }
    case H5T_FLOAT: {
      double value = 0;
      check_hdf5(H5Aread(attribute.get(), H5T_NATIVE_DOUBLE, &value), "H5Aread", path);
      return value;
    }
    default:
      return std::nullopt;
  }
}

}  // namespace

void set_hdf5_attributes(const std::string& path, const Attributes& attributes) {
  const Hdf5Lock lock;
  const H5Plist access = hdf5_file_access();
  H5File file(H5Fopen(path.c_str(), H5F_ACC_RDWR, access.get()), "H5Fopen", path, ErrorKind::io);
  for (const auto& [name, value] : attributes) std::visit(SetAttribute{file, path, name}, value);
  file.close(path);
}

Attributes read_hdf5_attributes(const H5File& file, const std::string& path) {
  const H5Group root(H5Gopen2(file.get(), "/", H5P_DEFAULT), "H5Gopen2", path);
  H5O_info_t info{};
  check_hdf5(H5Oget_info2(root.get(), &info, H5O_INFO_NUM_ATTRS), "H5Oget_info2", path);
  Attributes attributes;
  for (hsize_t i = 0; i < info.num_attrs; ++i) {
    const H5Attribute attribute(
        H5Aopen_by_idx(root.get(), ".", H5_INDEX_NAME, H5_ITER_INC, i, H5P_DEFAULT, H5P_DEFAULT),
        "H5Aopen_by_idx", path);
    std::array<char, 256> name{};
    check_hdf5(H5Aget_name(attribute.get(), name.size(), name.data()), "H5Aget_name", path);
    if (std::optional<Attribute> value = read_attribute(attribute, path))
      attributes.emplace(name.data(), std::move(*value));
  }
  return attributes;
}

}  // namespace mpishards::io
