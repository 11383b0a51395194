#include "message_mutator.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace mpishards {

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr std::size_t kGrowth = 64;
constexpr int kMostNested = 16;

struct Place {
  Message* message;
  const FieldDescriptor* field;
  int index;  // -1: the field is not repeated
};

void find(Message& message, std::vector<Message*>& messages, std::vector<Place>& places, int depth) {
  messages.push_back(&message);
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const bool nests = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE && depth < kMostNested;
    const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
    for (int i = 0; i < count; ++i) {
      places.push_back({&message, field, field->is_repeated() ? i : -1});
      if (nests)
        find(field->is_repeated() ? *reflection.MutableRepeatedMessage(&message, field, i)
                                  : *reflection.MutableMessage(&message, field),
             messages, places, depth + 1);
    }
  }
}

std::string mutated(const std::string& text, bool is_text) {
  std::string changed = text;
  changed.resize(text.size() + kGrowth);
  changed.resize(
      LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(changed.data()), text.size(), changed.size()));
  if (is_text)  // what is not UTF-8 never gets past protobuf
    for (char& c : changed) c = static_cast<char>(c & 0x7f);
  return changed;
}

template <class Number>
Number mutated(Number number) {
  LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(&number), sizeof(number), sizeof(number));
  return number;
}
bool mutated(bool is_true) {
  return !is_true;
}

/// A value in the place of another. New ones of a message begin empty.
void change(const Place& place) {
  const Reflection& reflection = *place.message->GetReflection();
  Message* message = place.message;
  const FieldDescriptor* field = place.field;
  const bool single = place.index < 0;
  switch (field->cpp_type()) {
#define MPISHARDS_CHANGE(TYPE, Name)                                                                     \
  case FieldDescriptor::CPPTYPE_##TYPE:                                                                  \
    if (single)                                                                                          \
      reflection.Set##Name(message, field, mutated(reflection.Get##Name(*message, field)));              \
    else                                                                                                 \
      reflection.SetRepeated##Name(message, field, place.index,                                          \
                                   mutated(reflection.GetRepeated##Name(*message, field, place.index))); \
    return;
    MPISHARDS_CHANGE(INT32, Int32)
    MPISHARDS_CHANGE(INT64, Int64)
    MPISHARDS_CHANGE(UINT32, UInt32)
    MPISHARDS_CHANGE(UINT64, UInt64)
    MPISHARDS_CHANGE(DOUBLE, Double)
    MPISHARDS_CHANGE(FLOAT, Float)
    MPISHARDS_CHANGE(BOOL, Bool)
    MPISHARDS_CHANGE(ENUM, EnumValue)
#undef MPISHARDS_CHANGE
    case FieldDescriptor::CPPTYPE_STRING: {
      const bool is_text = field->type() == FieldDescriptor::TYPE_STRING;
      if (single)
        reflection.SetString(message, field, mutated(reflection.GetString(*message, field), is_text));
      else
        reflection.SetRepeatedString(
            message, field, place.index,
            mutated(reflection.GetRepeatedString(*message, field, place.index), is_text));
      return;
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      if (single)
        reflection.ClearField(message, field);
      else
        reflection.RemoveLast(message, field);
      return;
  }
}

void add(Message& message, const FieldDescriptor* field) {
  const Reflection& reflection = *message.GetReflection();
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    if (!field->is_repeated()) {
      reflection.MutableMessage(&message, field);
      return;
    }
    const int count = reflection.FieldSize(message, field);
    Message* added = reflection.AddMessage(&message, field);
    if (count > 0) added->CopyFrom(reflection.GetRepeatedMessage(message, field, count - 1));
    return;
  }
  if (!field->is_repeated()) return change({&message, field, -1});
  if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING)
    reflection.AddString(&message, field, mutated(std::string(), true));
  else if (field->cpp_type() == FieldDescriptor::CPPTYPE_INT64)
    reflection.AddInt64(&message, field, mutated(std::int64_t{0}));
}

}  // namespace

void mutate(Message& message, std::minstd_rand& random) {
  std::vector<Message*> messages;
  std::vector<Place> places;
  find(message, messages, places, 0);
  if (!places.empty() && random() % 4 != 0) return change(places[random() % places.size()]);
  Message& grown = *messages[random() % messages.size()];
  const int fields = grown.GetDescriptor()->field_count();
  if (fields > 0)
    add(grown, grown.GetDescriptor()->field(static_cast<int>(random() % static_cast<unsigned>(fields))));
}

}  // namespace mpishards
