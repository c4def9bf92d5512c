package servers

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"colorfast/internal/program"
)

// User is somebody who may do with a bucket what a policy says, and nothing else.
type User struct{ AccessKey, SecretKey, SessionToken string } // no token with versitygw

// MakeUser makes a user under a policy in the language of AWS's IAM. With
// versitygw the policy becomes the bucket's, so there is one such user a bucket.
func (s *S3) MakeUser(tb testing.TB, bucket, policy string) User {
	tb.Helper()
	if s.Name == MinIO.Name {
		transport, err := s.transport()
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(transport.CloseIdleConnections)
		v, err := (&credentials.STSAssumeRole{
			Client: nil, STSEndpoint: s.URL, Options: credentials.STSAssumeRoleOptions{AccessKey: s.AccessKey, SecretKey: s.SecretKey, Policy: policy, Location: s.Region, DurationSeconds: 3600},
		}).RetrieveWithCredContext(s.Client(tb).CredContext())
		if err != nil {
			tb.Fatal(err)
		}
		return User{v.AccessKeyID, v.SecretAccessKey, v.SessionToken}
	}
	u := User{AccessKey: "user" + secret(6), SecretKey: secret(20)}
	env := []string{"ADMIN_ACCESS_KEY_ID=" + s.AccessKey, "ADMIN_SECRET_ACCESS_KEY=" + s.SecretKey, "ADMIN_REGION=" + s.Region, "ADMIN_ENDPOINT_URL=" + s.URL}
	if _, err := program.Run(tb.Context(), tb.TempDir(), append(os.Environ(), env...), VersityGW.Require(tb), "admin", "--allow-insecure",
		"create-user", "--access", u.AccessKey, "--secret", u.SecretKey, "--role", "user"); err != nil {
		tb.Fatal(err)
	}
	var p struct {
		Version   string
		Statement []map[string]any
	}
	if err := json.Unmarshal([]byte(policy), &p); err != nil {
		tb.Fatal(err)
	}
	for _, st := range p.Statement {
		st["Principal"] = map[string]any{"AWS": []string{u.AccessKey}}
	}
	b, err := json.Marshal(p)
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.Client(tb).SetBucketPolicy(tb.Context(), bucket, string(b)); err != nil {
		tb.Fatalf("set the policy of bucket %q: %v", bucket, err)
	}
	return u
}
