#include "serve/token_set.hpp"

#include <gtest/gtest.h>

#include "core/error.hpp"
#include "serve/collection.hpp"
#include "serve/server.hpp"

namespace mpishards::serve {
namespace {

TEST(TokenSet, admits_what_it_holds_and_nothing_else) {
  const TokenSet tokens({"root:Milvus", "secret"});
  EXPECT_TRUE(tokens.admits("root:Milvus"));
  EXPECT_TRUE(tokens.admits("secret"));
  for (const char* wrong : {"", "root:Milvu", "root:Milvus2", "Secret", "secretsecret", "root:", "secre"})
    EXPECT_FALSE(tokens.admits(wrong)) << wrong;
  EXPECT_TRUE(TokenSet().admits("anything"));
}

TEST(TokenSet, base64_as_clients_send_it) {
  EXPECT_EQ(decode_base64("cm9vdDpNaWx2dXM="), "root:Milvus");
  EXPECT_EQ(decode_base64("c2VjcmV0"), "secret");
  EXPECT_EQ(decode_base64("not base64!"), "");
}

TEST(Addresses, loopback_is_told_from_the_rest) {
  for (const char* here : {"127.0.0.1:19530", "localhost:1", "[::1]:80", "unix:/tmp/s", "127.9.9.9:0"})
    EXPECT_TRUE(is_loopback(here)) << here;
  for (const char* outside : {"0.0.0.0:19530", "node7:1", "[::]:80", "10.0.0.1:0"})
    EXPECT_FALSE(is_loopback(outside)) << outside;
  for (const char* wrong : {"127.0.0.1", ":80", "host:port", "host:123456"})
    EXPECT_THROW(is_loopback(wrong), Error) << wrong;
}

TEST(CollectionNames, are_those_that_clients_can_use) {
  for (const char* good : {"a", "_x9", "fashion_mnist"}) EXPECT_NO_THROW(check_collection_name(good)) << good;
  for (const char* bad : {"", "9a", "a-b", "a b", "a/b", "ä"})
    EXPECT_THROW(check_collection_name(bad), Error) << bad;
  EXPECT_THROW(check_collection_name(std::string(256, 'a')), Error);
}

}  // namespace
}  // namespace mpishards::serve
