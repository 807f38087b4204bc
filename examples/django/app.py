"""Django in one file: a view that takes a JSON object and answers a prediction."""

import json
import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from artifact import load
from artifact.encode import BadRows

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY", "only for a laptop"),
)
model = load(os.environ["MODEL"])


@csrf_exempt
@require_POST
def predict(request):
    try:
        row = json.loads(request.body)
        return JsonResponse({"prediction": model.predict([row])[0]})
    except json.JSONDecodeError as error:
        return JsonResponse({"error": f"the body is not JSON: {error}"}, status=400)
    except BadRows as error:
        wrong = [{"column": each.column, "reason": each.reason} for each in error.errors]
        return JsonResponse({"error": wrong}, status=422)


def about(request):
    return JsonResponse({"model": model.name, "example": model.signature.example})


urlpatterns = [path("", about), path("predict", predict)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
