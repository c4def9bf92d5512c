package fake_test

import (
	"testing"

	"colorfast"
	"colorfast/internal/contract"
	"colorfast/internal/fake"
)

func TestVaultKeepsItsContract(t *testing.T) {
	contract.Vault(t, func(t *testing.T) colorfast.Vault {
		v, err := fake.NewVault(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return v
	})
}

func TestVaultKeepsItsContractAsAReplica(t *testing.T) {
	contract.Replica(t, func(t *testing.T) contract.Copyable {
		v, err := fake.NewVault(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return v
	})
}
