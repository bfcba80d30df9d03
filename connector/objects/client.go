package objects

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// maxAnswer bounds the body of one answer. A full page of 1,000 keys of 1,024
// bytes, percent-encoded, is below 8 MiB.
const maxAnswer = 32 << 20

// newClient builds the SDK's client. Its own retries and its log are off:
// retries are ours, so that they obey our clock and our limits, and a log line
// of the SDK may hold a key.
func newClient(ctx context.Context, o Options) (*s3.Client, error) {
	load := []func(*config.LoadOptions) error{
		config.WithLogger(logging.Nop{}),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns = o.Concurrency
			t.MaxIdleConnsPerHost = o.Concurrency
		})),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	}
	if o.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.Profile))
	}
	if o.Region != "" {
		load = append(load, config.WithRegion(o.Region))
	}
	if o.AccessKey != "" {
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(o.AccessKey, o.SecretKey, o.SessionToken)))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	return s3.NewFromConfig(cfg, func(s *s3.Options) {
		if o.Endpoint != "" {
			s.BaseEndpoint = &o.Endpoint
		}
		custom := s.BaseEndpoint != nil && *s.BaseEndpoint != ""
		s.UsePathStyle = o.Addressing == AddressPath || o.Addressing == AddressAuto && custom
		if custom {
			// Older servers know neither the new checksums nor their trailers.
			s.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			s.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
		s.DisableLogOutputChecksumValidationSkipped = true
		s.APIOptions = append(s.APIOptions, addAnswerCheck)
		if o.ReadOnly {
			s.APIOptions = append(s.APIOptions, addReadOnly)
		}
	}), nil
}

// errReadOnly is a request to delete through a connector that may only look.
var errReadOnly = errors.New("the store is open for looking only")

// addReadOnly lets through the operations that look, by name.
func addReadOnly(stack *middleware.Stack) error {
	return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("ReadOnly",
		func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (
			middleware.InitializeOutput, middleware.Metadata, error,
		) {
			op := awsmiddleware.GetOperationName(ctx)
			if !strings.HasPrefix(op, "List") && !strings.HasPrefix(op, "Get") && !strings.HasPrefix(op, "Head") {
				return middleware.InitializeOutput{}, middleware.Metadata{}, errReadOnly
			}
			return next.HandleInitialize(ctx, in)
		}), middleware.After)
}

// withMD5 adds Content-MD5 to a batch delete: servers older than the new
// checksums refuse the request without it.
func withMD5(o *s3.Options) {
	if o.BaseEndpoint != nil && *o.BaseEndpoint != "" {
		o.APIOptions = append(o.APIOptions, smithyhttp.AddContentChecksumMiddleware)
	}
}

// errAnswerCut is an answer whose body could not be read to its end.
var errAnswerCut = errors.New("read answer")

// oddAnswer is a success whose body is not the document that was asked for.
type oddAnswer struct {
	status int
	root   string // the root element, empty when the body is no XML
}

func (e *oddAnswer) Error() string {
	return fmt.Sprintf("status %d with an answer that is not the document asked for", e.status)
}

// answerRoots are the root elements of the answer to an operation: the one of
// S3 first, then what compatible servers are seen to write. An operation whose
// answer has no body has the root "".
func answerRoots(operation string) []string {
	switch operation {
	case "ListObjectVersions":
		return []string{"ListVersionsResult", "ListBucketVersionsResult", "ListObjectVersionsResult"}
	case "ListObjectsV2":
		return []string{"ListBucketResult", "ListBucketV2Result", "ListObjectsV2Result"}
	case "ListMultipartUploads":
		return []string{"ListMultipartUploadsResult"}
	case "DeleteObjects":
		return []string{"DeleteResult", "DeleteObjectsResult", "MultiDeleteResult"}
	case "GetBucketVersioning":
		return []string{"VersioningConfiguration"}
	case "GetObjectLockConfiguration":
		return []string{"ObjectLockConfiguration"}
	case "GetObjectRetention":
		return []string{"Retention", "ObjectLockRetention"}
	case "GetObjectLegalHold":
		return []string{"LegalHold", "ObjectLockLegalHold"}
	case "GetObjectTagging":
		return []string{"Tagging"}
	case "DeleteObject", "AbortMultipartUpload":
		return []string{""}
	}
	return nil
}

// addAnswerCheck refuses a 2xx answer whose body is an error or no answer to
// the question. The SDK takes a listing of another document as an empty one.
func addAnswerCheck(stack *middleware.Stack) error {
	return stack.Deserialize.Insert(middleware.DeserializeMiddlewareFunc("AnswerCheck",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
			out middleware.DeserializeOutput, metadata middleware.Metadata, err error,
		) {
			out, metadata, err = next.HandleDeserialize(ctx, in)
			resp, ok := out.RawResponse.(*smithyhttp.Response)
			if err != nil || !ok || resp.StatusCode < 200 || resp.StatusCode >= 300 {
				return out, metadata, err
			}
			want := answerRoots(awsmiddleware.GetOperationName(ctx))
			if want == nil {
				return out, metadata, nil
			}
			body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
			resp.Body.Close()
			if err != nil {
				return out, metadata, fmt.Errorf("%w: %w", errAnswerCut, err)
			}
			if err := checkAnswer(want, resp.StatusCode, body); err != nil {
				return out, metadata, err
			}
			resp.Body = io.NopCloser(bytes.NewReader(body))
			return out, metadata, nil
		}), "OperationDeserializer", middleware.After)
}

func checkAnswer(want []string, status int, body []byte) error {
	if len(body) > maxAnswer {
		return &oddAnswer{status: status}
	}
	body = bytes.TrimSpace(body)
	root := rootElement(body)
	if root == "Error" {
		var e struct{ Code, Message string }
		if err := xml.Unmarshal(body, &e); err == nil && e.Code != "" {
			return &smithy.GenericAPIError{Code: e.Code, Message: e.Message}
		}
	}
	if want[0] == "" {
		// A delete answers without a body. Some servers put a document there;
		// what it means is settled by looking again, unless it is an error.
		if root == "Error" {
			return &oddAnswer{status: status, root: root}
		}
		return nil
	}
	whole := bytes.HasSuffix(body, []byte("</"+root+">")) || bytes.HasSuffix(body, []byte(":"+root+">")) ||
		bytes.HasSuffix(body, []byte("/>")) && bytes.Count(body, []byte("<")) <= 2
	if !slices.Contains(want, root) || !whole {
		return &oddAnswer{status: status, root: root}
	}
	return nil
}

func rootElement(body []byte) string {
	d := xml.NewDecoder(bytes.NewReader(body))
	for {
		t, err := d.Token()
		if err != nil {
			return ""
		}
		if s, ok := t.(xml.StartElement); ok {
			return s.Name.Local
		}
	}
}

// status returns the HTTP status of a failed request, 0 when there was none.
func status(err error) int {
	var r interface{ HTTPStatusCode() int }
	if errors.As(err, &r) {
		return r.HTTPStatusCode()
	}
	return 0
}
