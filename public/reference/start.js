// Starts Swagger UI on /docs when its files are there; the page explains itself when they are not.
if (window.SwaggerUIBundle !== undefined) {
  window.SwaggerUIBundle({
    url: '/openapi.json',
    dom_id: '#reference',
    deepLinking: true,
    validatorUrl: null,
  });
}
