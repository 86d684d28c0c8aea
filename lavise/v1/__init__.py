"""Generated code of the contract, proto/lavise/v1; `make proto` makes it again."""
