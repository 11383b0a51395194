#pragma once

#include <google/protobuf/message.h>

#include <random>

namespace mpishards {

/// Changes one value somewhere in the message, or adds or removes one: bytes that are turned at random are
/// seldom a message any more.
void mutate(google::protobuf::Message& message, std::minstd_rand& random);

}  // namespace mpishards
