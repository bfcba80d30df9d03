package objects_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/objects"
	"github.com/epitaph/epitaph/internal/testserver"
)

// TestCredentials proves each source of credentials on a server that takes
// only the right ones. It sets the environment, and so runs alone.
func TestCredentials(t *testing.T) {
	b := testserver.S3(t, testserver.S3Options{})
	open(t, b, objects.Options{}).put("k", "x")
	dir := t.TempDir()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION",
		"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
		os.Unsetenv(name)
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	credentials := filepath.Join(dir, "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", credentials)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	look := func(o objects.Options) connector.Result {
		t.Helper()
		c, err := objects.Open(t.Context(), "s3://"+b.Name, o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.Probe(t.Context(), []connector.Locator{"k"})[0]
	}
	at := objects.Options{Endpoint: b.Endpoint}

	wantResult(t, "none at all", look(at), connector.Unknown, connector.NoPermission)

	wrong := at
	wrong.AccessKey, wrong.SecretKey = b.AccessKey, "wrong"
	wantResult(t, "a wrong secret", look(wrong), connector.Unknown, connector.NoPermission)

	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(credentials, fmt.Sprintf("[media]\naws_access_key_id = %s\naws_secret_access_key = %s\n", b.AccessKey, b.SecretKey))
	profile := at
	profile.Profile = "media"
	wantResult(t, "a profile", look(profile), connector.Present, "")
	profile.Profile = "nobody"
	if _, err := objects.Open(t.Context(), "s3://"+b.Name, profile); err == nil {
		t.Error("a profile that is not there was accepted")
	}

	t.Setenv("AWS_ACCESS_KEY_ID", b.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", b.SecretKey)
	wantResult(t, "the environment", look(at), connector.Present, "")
	t.Setenv("AWS_ENDPOINT_URL_S3", b.Endpoint)
	wantResult(t, "the endpoint from the environment", look(objects.Options{Addressing: objects.AddressPath}), connector.Present, "")
	os.Unsetenv("AWS_ACCESS_KEY_ID")
	os.Unsetenv("AWS_SECRET_ACCESS_KEY")

	var asked atomic.Int64
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.FormValue("WebIdentityToken") != "a token" {
			s3Error(w, 403, "AccessDenied")
			return
		}
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId>`+
			`<SecretAccessKey>%s</SecretAccessKey><SessionToken></SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>`+
			`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, b.AccessKey, b.SecretKey)
	}))
	defer sts.Close()
	token := filepath.Join(dir, "token")
	write(token, "a token")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/purger")
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_REGION", "us-east-1")
	wantResult(t, "a web identity", look(at), connector.Present, "")
	write(token, "an old token")
	wantResult(t, "a web identity that is refused", look(at), connector.Unknown, connector.NoPermission)
	if asked.Load() < 2 {
		t.Error("nobody asked for the role")
	}
}
