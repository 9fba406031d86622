"""The tests, and the toy stage that they run under the contract."""
