#include "io/hdf5_types.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/error.hpp"

namespace mpishards::io {

namespace {

static_assert(std::endian::native == std::endian::little, "file formats are written in native order");

// HDF5 1.10 has no type of its own for brain floats: they are stored as uint16 with this attribute.
constexpr const char* kDTypeAttribute = "dtype";
constexpr std::string_view kBfloat16 = "bfloat16";

struct FloatRow {
  std::size_t bytes;
  std::size_t exponent_bits;
  std::size_t mantissa_bits;
  std::size_t bias;
  DType dtype;
};
constexpr FloatRow kFloats[] = {{4, 8, 23, 127, DType::f32},
                                {8, 11, 52, 1023, DType::f64},
                                {2, 5, 10, 15, DType::f16},
                                {2, 8, 7, 127, DType::bf16}};

std::string class_name(H5T_class_t type_class) {
  switch (type_class) {
    case H5T_INTEGER:
      return "integer";
    case H5T_FLOAT:
      return "floating-point";
    case H5T_STRING:
      return "string";
    case H5T_COMPOUND:
      return "compound";
    case H5T_ENUM:
      return "enumeration";
    case H5T_VLEN:
      return "variable-length";
    case H5T_ARRAY:
      return "array";
    case H5T_REFERENCE:
      return "reference";
    default:
      return "unknown";
  }
}

[[noreturn]] void throw_unreadable(const std::string& subject, const std::string& found) {
  throw Error(ErrorKind::data,
              subject + " has elements of " + found +
                  " type, expected numbers: float of 16, 32 or 64 bits, bfloat16, or integers of 8 "
                  "to 64 bits; store one plain number an element");
}

bool is_float(hid_t type, const FloatRow& row) {
  std::size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
  if (H5Tget_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) < 0) return false;
  return H5Tget_size(type) == row.bytes && sign == 8 * row.bytes - 1 && exponent == row.mantissa_bits &&
         exponent_bits == row.exponent_bits && mantissa == 0 && mantissa_bits == row.mantissa_bits &&
         H5Tget_ebias(type) == row.bias && H5Tget_norm(type) == H5T_NORM_IMPLIED;
}

DType float_dtype(hid_t type, const std::string& subject) {
  for (const FloatRow& row : kFloats)
    if (is_float(type, row)) return row.dtype;
  throw_unreadable(subject, "unusual " + std::to_string(8 * H5Tget_size(type)) + "-bit floating-point");
}

std::string text_attribute(const H5Dataset& dataset, const char* name, const std::string& subject) {
  if (check_hdf5(H5Aexists(dataset.get(), name), "H5Aexists", subject) == 0) return "";
  const H5Attribute attribute(H5Aopen(dataset.get(), name, H5P_DEFAULT), "H5Aopen", subject);
  const H5Type type(H5Aget_type(attribute.get()), "H5Aget_type", subject);
  const H5Space space(H5Aget_space(attribute.get()), "H5Aget_space", subject);
  if (H5Tget_class(type.get()) != H5T_STRING || H5Sget_simple_extent_npoints(space.get()) != 1) return "";
  if (H5Tis_variable_str(type.get()) > 0) {
    char* text = nullptr;
    check_hdf5(H5Aread(attribute.get(), type.get(), static_cast<void*>(&text)), "H5Aread", subject);
    const std::unique_ptr<char, herr_t (*)(void*)> owner(text, H5free_memory);
    return text == nullptr ? "" : text;
  }
  std::array<char, 64> text{};
  if (H5Tget_size(type.get()) >= text.size()) return "";
  check_hdf5(H5Aread(attribute.get(), type.get(), text.data()), "H5Aread", subject);
  return text.data();
}

DType integer_dtype(const H5Dataset& dataset, hid_t type, const std::string& subject) {
  const std::size_t bytes = H5Tget_size(type);
  const bool is_signed = H5Tget_sign(type) == H5T_SGN_2;
  if (H5Tget_precision(type) != 8 * bytes || H5Tget_offset(type) != 0)
    throw_unreadable(subject, "packed integer");
  switch (bytes) {
    case 1:
      return is_signed ? DType::i8 : DType::u8;
    case 2:
      if (!is_signed && text_attribute(dataset, kDTypeAttribute, subject) == kBfloat16) return DType::bf16;
      return DType::i32;
    case 4:
      return is_signed ? DType::i32 : DType::i64;
    case 8:
      if (is_signed) return DType::i64;
      throw_unreadable(subject, "unsigned 64-bit integer");
    default:
      throw_unreadable(subject, std::to_string(8 * bytes) + "-bit integer");
  }
}

/// What lies in the file: integers of 16 and 32 bits are read as wider ones.
StoredElement stored_element(hid_t type, DType dtype) {
  const std::size_t bytes = H5Tget_size(type);
  const bool widened = bytes != size_bytes(dtype);
  if (!widened) return {std::string(to_string(dtype)), bytes};
  return {(H5Tget_sign(type) == H5T_SGN_2 ? "i" : "u") + std::to_string(8 * bytes), bytes};
}

H5Type copy_of(hid_t type) {
  return H5Type(H5Tcopy(type), "H5Tcopy", "data type", ErrorKind::internal);
}

H5Type memory_type(DType dtype, hid_t stored) {
  const bool is_half = dtype == DType::f16 || dtype == DType::bf16;
  if (!is_half) return hdf5_stored_type(dtype);
  H5Type type = copy_of(stored);  // a two-byte float, or the uint16 that stands for one
  check_hdf5(H5Tset_order(type.get(), H5T_ORDER_LE), "H5Tset_order", "data type", ErrorKind::internal);
  return type;
}

H5Type half_type() {
  H5Type type = copy_of(H5T_IEEE_F32LE);
  const bool made = H5Tset_fields(type.get(), 15, 10, 5, 0, 10) >= 0 && H5Tset_size(type.get(), 2) >= 0 &&
                    H5Tset_ebias(type.get(), 15) >= 0;
  check_hdf5(made ? 0 : -1, "H5Tset_fields", "data type", ErrorKind::internal);
  return type;
}

}  // namespace

Hdf5Element hdf5_element_of(const H5Dataset& dataset, const std::string& subject) {
  const H5Type type(H5Dget_type(dataset.get()), "H5Dget_type", subject);
  const H5T_class_t type_class = H5Tget_class(type.get());
  if (type_class != H5T_FLOAT && type_class != H5T_INTEGER) throw_unreadable(subject, class_name(type_class));
  Hdf5Element element;
  element.dtype = type_class == H5T_FLOAT ? float_dtype(type.get(), subject)
                                          : integer_dtype(dataset, type.get(), subject);
  element.stored = stored_element(type.get(), element.dtype);
  element.memory = memory_type(element.dtype, type.get());
  const H5T_order_t order = H5Tget_order(type.get());
  const std::size_t bytes = H5Tget_size(type.get());
  element.swap_bytes = order == H5T_ORDER_BE && bytes > 1;
  element.same_bits =
      bytes == size_bytes(element.dtype) && (bytes == 1 || order == H5T_ORDER_LE || order == H5T_ORDER_BE);
  return element;
}

H5Type hdf5_stored_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return copy_of(H5T_IEEE_F32LE);
    case DType::f16:
      return half_type();
    case DType::bf16:
      return copy_of(H5T_STD_U16LE);
    case DType::f64:
      return copy_of(H5T_IEEE_F64LE);
    case DType::u8:
      return copy_of(H5T_STD_U8LE);
    case DType::i8:
      return copy_of(H5T_STD_I8LE);
    case DType::i32:
      return copy_of(H5T_STD_I32LE);
    case DType::i64:
      return copy_of(H5T_STD_I64LE);
  }
  throw Error(ErrorKind::internal, "unknown dtype");
}

void mark_bfloat16(const H5Dataset& dataset, const std::string& subject) {
  const H5Type type = copy_of(H5T_C_S1);
  check_hdf5(H5Tset_size(type.get(), kBfloat16.size()), "H5Tset_size", subject, ErrorKind::io);
  check_hdf5(H5Tset_strpad(type.get(), H5T_STR_NULLPAD), "H5Tset_strpad", subject, ErrorKind::io);
  const H5Space scalar(H5Screate(H5S_SCALAR), "H5Screate", subject, ErrorKind::io);
  const H5Attribute attribute(
      H5Acreate2(dataset.get(), kDTypeAttribute, type.get(), scalar.get(), H5P_DEFAULT, H5P_DEFAULT),
      "H5Acreate", subject, ErrorKind::io);
  check_hdf5(H5Awrite(attribute.get(), type.get(), kBfloat16.data()), "H5Awrite", subject, ErrorKind::io);
}

}  // namespace mpishards::io
