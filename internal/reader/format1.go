package reader

import "io"

// openFormat1 follows "Backup" in vault.md: the object of a file, below data/,
// holds its bytes.
func openFormat1(v *Vault, b *Backup, f File) (io.Reader, error) {
	id, err := v.find(b, "data/"+f.Path, "f")
	if err != nil {
		return nil, err
	}
	o, err := v.object(id)
	if err != nil {
		return nil, err
	}
	return o.reader(), nil
}
