// What every error answer looks like, for the tests of both runtimes.
export interface ErrorBody {
  error: {
    message: string;
    type: string;
    code: string;
    param: string | null;
    request_id: string;
    doc_url: string;
  };
}
