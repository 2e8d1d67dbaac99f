#define BOOST_TEST_MODULE taskpool
#include <boost/test/unit_test.hpp>
